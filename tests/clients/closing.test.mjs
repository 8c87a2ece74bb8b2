// How connections end: by either side, by nobody's word, by a newer one, by a server that restarts; and what the others notice.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Peer, pause, until } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const HALF_MIB = 512 * 1024;
const LIMITS = ["--socket-ping-s", "0.5", "--socket-pong-s", "2", "--socket-buffer-max-mib", "1", "--socket-message-max-mib", "1"];
const server = await Server.start(...LIMITS);
after(() => server.remove());

/** Someone who is told of every end in a room. */
async function watching(t, room) {
  const watcher = Peer.party(t, server, { room, id: "watcher", query: { tags: "watch" } });
  await watcher.ask("here");
  return watcher;
}

test("a client's close is answered at once, with its code", async (t) => {
  const watcher = await watching(t, "bye");
  const ann = await Peer.plain(t, server, "/parties/main/bye?_pk=ann").open();
  await ann.ask("here");
  const began = performance.now();
  ann.socket.close(4001, "good night");
  assert.deepEqual(await ann.closed(), { code: 4001, reason: "good night" });
  assert.ok(performance.now() - began < 1000);
  assert.deepEqual(await watcher.json(), { closed: "ann", code: 4001, reason: "good night", here: ["watcher"] });
});

test("a close without a code is 1005", async (t) => {
  const watcher = await watching(t, "mute");
  const ann = await Peer.plain(t, server, "/parties/main/mute?_pk=ann").open();
  ann.socket.close();
  assert.equal((await ann.closed()).code, 1005);
  assert.equal((await watcher.json()).code, 1005);
});

test("what was sent just before the close is handled, then on_close", async (t) => {
  const watcher = await watching(t, "last");
  const ann = await Peer.plain(t, server, "/parties/main/last?_pk=ann").open();
  for (let number = 0; number < 100; number += 1) ann.send({ broadcast: { number }, exclude_self: true });
  ann.socket.close(1000);
  for (let number = 0; number < 100; number += 1) assert.deepEqual(await watcher.json(), { number });
  assert.equal((await watcher.json()).closed, "ann");
});

test("an application closes with a code of its own, and partysocket comes back", async (t) => {
  const watcher = await watching(t, "own");
  const ann = Peer.party(t, server, { room: "own", id: "ann" });
  ann.send({ close: [4321, "go"] });
  assert.deepEqual(await ann.closed(), { code: 4321, reason: "go" });
  assert.deepEqual(await watcher.json(), { closed: "ann", code: 4321, reason: "go", here: ["watcher"] });
  await ann.open(2);
});

test("shouldReconnectOnClose sees the code and has the last word", async (t) => {
  const seen = [];
  const shouldReconnectOnClose = ({ code }) => seen.push(code) < 2;
  const ann = Peer.party(t, server, { room: "own", shouldReconnectOnClose });
  for (const code of [4000, 4403]) {
    await ann.ask("here");
    ann.send({ close: [code, ""] });
    await ann.closed(seen.length + 1);
  }
  await pause(500); // it would be back after 200 ms
  assert.deepEqual([seen, ann.opened], [[4000, 4403], 2]);
});

test("a code that no endpoint may send is refused, whoever sends it", async (t) => {
  const watcher = await watching(t, "codes");
  const ann = await Peer.plain(t, server, "/parties/main/codes?_pk=ann").open();
  for (const code of [999, 1005, 1006, 2999, 5000, 70_000]) ann.send({ close: [code, ""] });
  assert.equal((await ann.ask("still here")).echo, "still here");
  for (let number = 0; number < 6; number += 1) assert.equal((await watcher.json()).failed, "ann");
  ann.socket._socket.write(clientFrame(0x88, Buffer.from([0x03, 0xed]))); // 1005
  assert.equal((await ann.closed()).code, 1002);
});

/** A masked frame, byte for byte: `ws` sends no wrong ones. */
function clientFrame(first, payload, length = payload.length) {
  const size = Buffer.alloc(9);
  size[0] = 0x80 | 127;
  size.writeBigUInt64BE(BigInt(length), 1);
  return Buffer.concat([Buffer.from([first]), size, Buffer.alloc(4), payload]); // a mask of zeros changes nothing
}

for (const [what, frame, code] of [
  ["a reserved opcode", clientFrame(0x83, Buffer.alloc(0)), 1002],
  ["a continuation of nothing", clientFrame(0x80, Buffer.from("x")), 1002],
  ["a reserved bit", clientFrame(0xc1, Buffer.from("x")), 1002],
  ["a frame without a mask", Buffer.from([0x81, 0x01, 0x78]), 1002],
  ["text that is not UTF-8", clientFrame(0x81, Buffer.from([0xc3, 0x28])), 1007],
  ["a length of 2 GiB", clientFrame(0x82, Buffer.alloc(10), 2 ** 31), 1009],
]) {
  test(`${what} is closed with ${code}, and the others go on`, async (t) => {
    const bob = await Peer.plain(t, server, "/parties/main/garbage").open();
    const ann = await Peer.plain(t, server, "/parties/main/garbage").open();
    ann.socket._socket.write(frame);
    assert.equal((await ann.closed()).code, code);
    assert.equal((await bob.ask("well")).echo, "well");
  });
}

test("a storm of connections comes and goes, and the room goes on", async (t) => {
  const ann = Peer.party(t, server, { room: "storm" });
  await ann.ask("here");
  for (let wave = 0; wave < 5; wave += 1) {
    const peers = Array.from({ length: 100 }, () => Peer.plain(t, server, "/parties/main/storm"));
    for (const [number, peer] of peers.entries()) {
      if (number % 3 === 0) peer.socket.terminate(); // before it is let in
      else peer.socket.once("open", () => (number % 3 === 1 ? peer.socket.close() : peer.socket.terminate()));
    }
    for (const peer of peers) await peer.closed();
  }
  await until(async () => (await ann.ask({ count: 1 })).count === 1, "all of them gone");
});

test("the limit of a message is a setting", async (t) => {
  const peer = await Peer.plain(t, server, "/parties/main/limit", [], { perMessageDeflate: false }).open();
  peer.send(Buffer.alloc(2 * HALF_MIB));
  assert.equal((await peer.next()).byteLength, 2 * HALF_MIB);
  peer.send(Buffer.alloc(2 * HALF_MIB + 1));
  const { code, reason } = await peer.closed();
  assert.equal(code, 1009);
  assert.match(reason.replaceAll(",", ""), /1048577.*1048576/);
});

test("a lost connection is 1006, and the socket is no longer listed", async (t) => {
  const watcher = await watching(t, "lost");
  const ann = await Peer.plain(t, server, "/parties/main/lost?_pk=ann").open();
  await ann.ask("here");
  ann.socket.terminate();
  const { closed, code, here } = await until(async () => {
    const news = await watcher.json();
    return "closed" in news && news;
  }, "the end");
  assert.deepEqual([closed, code, here], ["ann", 1006, ["watcher"]]);
});

test("a peer that does not answer pings is dropped, one that does stays", async (t) => {
  const watcher = await watching(t, "pings");
  const silent = await Peer.plain(t, server, "/parties/main/pings?_pk=silent", [], { autoPong: false }).open();
  const ann = Peer.party(t, server, { room: "pings", id: "ann" });
  await ann.ask("here");
  const news = [await watcher.json(), await watcher.json()];
  assert.deepEqual(news.map((each) => each.failed ?? each.closed), ["silent", "silent"]);
  assert.equal(news[1].code, 1006);
  await silent.closed();
  await pause(3000); // as long again as the silent one was given
  assert.equal(ann.opened, 1);
  assert.equal((await ann.ask("well")).echo, "well");
});

test("a newer socket with the same id takes over, and the older one's end does not remove it", async (t) => {
  const watcher = await watching(t, "twice");
  const path = "/parties/main/twice?_pk=ann";
  const older = await Peer.plain(t, server, path).open();
  older.send({ set_state: "the older one's" });
  await older.ask("here");
  older.socket.pause(); // half open: it neither reads nor answers
  const newer = await Peer.plain(t, server, path).open();
  assert.deepEqual(await newer.ask({ get_state: 1 }), { state: null });
  assert.deepEqual(await newer.ask({ tag: "ann" }), { tag: "ann", ids: ["ann"] });
  const gone = await watcher.json();
  assert.deepEqual([gone.closed, gone.code], ["ann", 1008]);
  older.socket.resume();
  assert.equal((await older.closed()).code, 1008);
  assert.deepEqual(await newer.ask({ tag: "ann" }), { tag: "ann", ids: ["ann"] });
  watcher.send({ broadcast: "anybody there?" });
  assert.equal(await newer.next(), "anybody there?");
});

test("partysocket that reconnects beside its own half open socket takes its place", async (t) => {
  const ann = Peer.party(t, server, { room: "half", id: "ann" });
  await ann.ask("here");
  const lost = ann.socket._ws;
  lost.pause();
  lost.close = () => {}; // the network is gone: no goodbye reaches the server
  t.after(() => lost.terminate());
  ann.socket.reconnect();
  await ann.open(2);
  await until(async () => (await ann.ask({ count: 1 })).count === 1, "the older one gone");
});

test("many reconnects in a row leave one socket", async (t) => {
  const ann = Peer.party(t, server, { room: "restless", id: "ann" });
  for (let number = 0; number < 50; number += 1) {
    ann.socket.reconnect();
    if (number % 2 === 0) await pause(number % 10);
  }
  assert.equal((await ann.ask("here")).id, "ann");
  const bob = Peer.party(t, server, { room: "restless", id: "bob" });
  await until(async () => (await bob.ask({ count: 1 })).count === 2, "the earlier ones gone");
  assert.deepEqual(await bob.ask({ tag: "ann" }), { tag: "ann", ids: ["ann"] });
  bob.send({ broadcast: "anybody there?" });
  assert.equal(await ann.next(), "anybody there?");
});

test("a client that does not read is closed with 1013, and the others get everything", async (t) => {
  const watcher = await watching(t, "slow");
  const slow = await Peer.plain(t, server, "/parties/main/slow?_pk=slow").open();
  const ann = await Peer.plain(t, server, "/parties/main/slow").open();
  await slow.ask("here");
  slow.socket.pause();
  const data = new Uint8Array(HALF_MIB);
  let sent = 0;
  const closed = async () => {
    ann.send(data);
    sent += 1;
    await until(() => ann.messages.length === sent, "the broadcast");
    return watcher.messages.find((each) => typeof each === "string" && "closed" in JSON.parse(each));
  };
  const { code } = JSON.parse(await until(closed, "the end of who does not read"));
  assert.equal(code, 1013);
  assert.ok(sent < 64, `${sent} messages of half a MiB were kept`);
  assert.equal(watcher.messages.filter((each) => typeof each !== "string").length, sent);
});

test("a broadcast reaches the others when one socket has just died", async (t) => {
  const peers = ["ann", "bob", "cat"].map((id) => Peer.party(t, server, { room: "died", id }));
  for (const peer of peers) await peer.ask("here");
  const dying = await Peer.plain(t, server, "/parties/main/died").open();
  await dying.ask("here");
  dying.socket.terminate();
  for (let number = 0; number < 50; number += 1) peers[0].send({ broadcast: { number } });
  for (const peer of peers) for (let number = 0; number < 50; number += 1) assert.deepEqual(await peer.json(), { number });
});

test("a stop is 1012, and partysocket is there again after the restart", async (t) => {
  const ann = Peer.party(t, server, { room: "stop", id: "ann" });
  ann.send({ put: ["key", "value"] });
  await ann.ask("here");
  assert.equal(await server.end("SIGTERM"), 0);
  assert.equal((await ann.closed()).code, 1012);
  ann.send({ get: "key" });
  await server.resume();
  assert.deepEqual(await ann.json(), { key: "key", value: "value" });
  assert.equal(ann.opened, 2);
});
