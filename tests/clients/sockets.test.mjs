// What a socket carries: addresses and ids, messages of both kinds, tags, state, and turns that fail.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import PartySocket from "partysocket";
import WS from "ws";
import { Peer, until } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const MIB = 1024 * 1024;
const UPGRADE = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
const server = await Server.start();
after(() => server.remove());

test("_pk is the id, and with its query the uri arrives as it was sent", async (t) => {
  const ann = Peer.party(t, server, { room: "ids", id: "ann", path: "down", query: { a: "1", b: "ü &?" } });
  const { id, uri, tags } = await ann.ask({ who: 1 });
  assert.deepEqual([id, tags], ["ann", ["ann"]]);
  assert.equal(uri, "/parties/main/ids/down?_pk=ann&a=1&b=%C3%BC+%26%3F");
  assert.equal(ann.socket.id, "ann");
});

test("without _pk every socket has an id of its own", async (t) => {
  const ids = [];
  for (const path of ["/parties/main/ids", "/parties/main/ids?", "/party/ids?_pk="]) {
    ids.push((await (await Peer.plain(t, server, path).open()).ask({ who: 1 })).id);
  }
  assert.equal(new Set(ids).size, 3);
  assert.ok(ids.every((id) => id.length >= 8));
});

test("a query may hold a second question mark", async (t) => {
  const peer = await Peer.plain(t, server, "/parties/main/ids?_pk=q&url=http://x/?y=1").open();
  const { id, uri } = await peer.ask({ who: 1 });
  assert.deepEqual([id, uri], ["q", "/parties/main/ids?_pk=q&url=http://x/?y=1"]);
});

test("_pk stays the same over a reconnect", async (t) => {
  const ann = Peer.party(t, server, { room: "again" });
  const before = await ann.ask({ who: 1 });
  ann.send({ close: [4000, "again"] });
  await ann.open(2);
  assert.equal((await ann.ask({ who: 1 })).id, before.id);
});

test("rooms and parties by the same rules as HTTP", async (t) => {
  for (const [path, room] of [["/parties/main/a%2Fb", "a/b"], ["/parties/main/a/b", "a"], ["//party//c", "c"]]) {
    const peer = await Peer.plain(t, server, path).open();
    assert.equal((await peer.ask("hello")).room, room);
  }
  for (const path of ["/parties/nobody/x", "/parties/main/", "/parties/Main/x", "/nothing"]) {
    assert.equal(await refusal(path), 404);
  }
});

/** The status of a handshake that is refused. */
async function refusal(path, headers = {}) {
  const [status] = await response(path, headers);
  return status;
}

function response(path, headers = {}) {
  const socket = new WS(`ws://${server.host}${path}`, { headers });
  return new Promise((done, fail) => {
    socket.once("error", fail);
    socket.once("open", () => fail(new Error("it was let in")));
    socket.once("unexpected-response", async (_, answer) => {
      let text = "";
      for await (const piece of answer) text += piece;
      done([answer.statusCode, text]);
    });
  });
}

test("before_connect lets in with its headers, refuses with its response, or refuses by raising", async (t) => {
  const ann = Peer.party(t, server, { party: "auth", room: "door", query: { token: "ok" } });
  assert.deepEqual(await ann.ask("hello"), { echo: "hello", user: "ann" });
  assert.deepEqual(await response("/parties/auth/door"), [403, "no token, no entry"]);
  const [status, text] = await response("/parties/auth/door?token=throw");
  assert.equal(status, 401);
  assert.match(text, /the token is spent/);
});

test("partysocket goes on trying where it is refused, and gets in once it may", async (t) => {
  let token = "no";
  const ann = Peer.party(t, server, { party: "auth", room: "door", query: () => ({ token }) });
  await until(() => ann.socket.retryCount >= 2, "a second attempt");
  assert.equal(ann.opened, 0);
  token = "ok";
  assert.deepEqual(await ann.ask("at last"), { echo: "at last", user: "ann" });
});

test("what was sent before the open waits for on_connect, in order", async (t) => {
  const ann = Peer.party(t, server, { room: "flush", query: { greet: "1" } });
  const texts = Array.from({ length: 200 }, (_, number) => `message ${number}`);
  texts.forEach((text) => ann.send(text));
  assert.deepEqual(await ann.json(), { greeting: 1 }); // the last thing that on_connect does
  for (const text of texts) assert.equal((await ann.json()).echo, text);
});

test("the first subprotocol that is offered is answered", async (t) => {
  const ann = Peer.party(t, server, { room: "sub", protocols: ["chat.v2", "chat.v1"] });
  await ann.ask("hello");
  assert.equal(ann.socket.protocol, "chat.v2");
});

for (const perMessageDeflate of [false, true, { threshold: 0 }]) {
  test(`permessage-deflate as ${JSON.stringify(perMessageDeflate)} works`, async (t) => {
    const peer = await Peer.plain(t, server, "/parties/main/deflate", [], { perMessageDeflate }).open();
    const text = "the same again ".repeat(10_000);
    assert.equal((await peer.ask(text)).echo, text);
  });
}

test("empty texts are messages, and text and binary keep their kind", async (t) => {
  const peer = await Peer.plain(t, server, "/parties/main/kinds").open();
  assert.equal((await peer.ask("")).echo, "");
  peer.send(new Uint8Array([0, 255, 128]));
  assert.deepEqual(new Uint8Array(await peer.next()), new Uint8Array([0, 255, 128]));
  peer.send(new Uint8Array());
  assert.equal((await peer.next()).byteLength, 0);
  peer.send("ümläut 🎉");
  assert.equal((await peer.json()).echo, "ümläut 🎉");
});

test("32 MiB are a message", async (t) => {
  const peer = await Peer.plain(t, server, "/parties/main/large", [], { maxPayload: 64 * MIB, perMessageDeflate: false }).open();
  const data = Buffer.alloc(32 * MIB, 7);
  peer.send(data);
  assert.ok(data.equals(Buffer.from(await peer.next())));
});

test("one byte more is closed with 1009 and both sizes", async (t) => {
  const other = await Peer.plain(t, server, "/parties/main/large?tags=watch").open();
  const peer = await Peer.plain(t, server, "/parties/main/large", [], { perMessageDeflate: false }).open();
  peer.send(Buffer.alloc(32 * MIB + 1));
  const { code, reason } = await peer.closed();
  assert.equal(code, 1009);
  assert.match(reason.replaceAll(/[,_.]/g, ""), /33554433.*33554432|33554432.*33554433/);
  const news = [await other.json(), await other.json()];
  assert.equal(news.find((each) => "closed" in each).code, 1009);
});

test("on_connect that raises closes with 1011 and its message, and leaves nothing", async (t) => {
  const watcher = Peer.party(t, server, { room: "refuse", query: { tags: "watch" } });
  await watcher.ask("here");
  const reason = `not today: ${"é".repeat(200)}`;
  const peer = Peer.plain(t, server, `/parties/main/refuse?refuse=${encodeURIComponent(reason)}`);
  const closed = await peer.closed();
  assert.equal(closed.code, 1011);
  assert.ok(closed.reason.length > 50 && reason.startsWith(closed.reason), closed.reason);
  const ann = Peer.party(t, server, { room: "refuse", query: { refuse: "not you" }, maxRetries: 0 });
  ann.send({ put: ["refused", "was handled"] });
  assert.deepEqual(await ann.closed(), { code: 1011, reason: "not you" });
  assert.deepEqual(await watcher.ask({ get: "refused" }), { key: "refused", value: null });
  assert.deepEqual(await watcher.ask({ count: 1 }), { count: 1 }); // and no word of a socket that closed
});

test("partysocket comes back after 1011", async (t) => {
  let refuse = "busy";
  const ann = Peer.party(t, server, { room: "refuse", query: () => ({ refuse }) });
  assert.deepEqual(await ann.closed(), { code: 1011, reason: "busy" });
  refuse = undefined;
  assert.equal((await ann.ask("hello")).echo, "hello");
});

test("on_message that raises leaves no trace, and the socket stays open", async (t) => {
  const watcher = Peer.party(t, server, { room: "throw", query: { tags: "watch" } });
  await watcher.open();
  const ann = Peer.party(t, server, { room: "throw", id: "ann" });
  ann.send({ set_state: "before" });
  ann.send({ put: ["thrown", "nothing"] });
  ann.send({ throw: "on purpose" });
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: "before" });
  assert.deepEqual(await ann.ask({ get: "thrown" }), { key: "thrown", value: "nothing" });
  assert.deepEqual(await watcher.json(), { failed: "ann", error: "on purpose" });
  assert.equal(ann.opened, 1);
  assert.match(server.errors, /on purpose/);
});

test("tags come from connection_tags, the id is one, and closed sockets have none", async (t) => {
  const ann = Peer.party(t, server, { room: "tags", id: "ann", query: { tags: "red,blue" } });
  await ann.ask("here");
  const bob = Peer.party(t, server, { room: "tags", id: "bob", query: { tags: "red" } });
  assert.deepEqual(await bob.ask({ tag: "red" }), { tag: "red", ids: ["ann", "bob"] });
  assert.deepEqual(await bob.ask({ tag: "blue" }), { tag: "blue", ids: ["ann"] });
  assert.deepEqual(await bob.ask({ tag: "bob" }), { tag: "bob", ids: ["bob"] });
  assert.deepEqual(await bob.ask({ tag: "green" }), { tag: "green", ids: [] });
  assert.deepEqual([...(await ann.ask({ who: 1 })).tags].sort(), ["ann", "blue", "red"]);
  ann.socket.close();
  await until(async () => (await bob.ask({ tag: "red" })).ids.length === 1, "the end of a socket");
});

test("ten tags of 256 characters are let in, more or longer ones are not", async (t) => {
  const tags = Array.from({ length: 10 }, (_, number) => String(number).repeat(256));
  const most = Peer.party(t, server, { room: "tags", query: { tags: tags.join() } });
  assert.equal((await most.ask({ who: 1 })).tags.length, 11);
  for (const wrong of [[...tags, "x"], ["x".repeat(257)]]) {
    assert.equal((await Peer.plain(t, server, `/parties/main/tags?tags=${wrong.join()}`).closed()).code, 1011);
  }
});

test("state is a value of the connection, of at most 16 KiB", async (t) => {
  const ann = Peer.party(t, server, { room: "state", id: "ann" });
  const bob = Peer.party(t, server, { room: "state", id: "bob" });
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: null });
  ann.send({ set_state: { cursor: [1, 2] } });
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: { cursor: [1, 2] } });
  assert.deepEqual(await bob.ask({ get_state: 1 }), { state: null });
  ann.send({ set_state: "x".repeat(16 * 1024 + 1) });
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: { cursor: [1, 2] } });
});

test("a broadcast reaches all, or all but the sender, bytes as bytes", async (t) => {
  const peers = ["ann", "bob", "cat"].map((id) => Peer.party(t, server, { room: "cast", id }));
  for (const peer of peers) await peer.ask("here");
  const [ann, bob, cat] = peers;
  ann.send({ broadcast: "to all" });
  ann.send({ broadcast: { but: "me" }, exclude_self: true });
  ann.send(new Uint8Array([1, 2]));
  for (const peer of [bob, cat]) {
    assert.equal(await peer.next(), "to all");
    assert.deepEqual(await peer.json(), { but: "me" });
    assert.deepEqual(new Uint8Array(await peer.next()), new Uint8Array([1, 2]));
  }
  assert.equal(await ann.next(), "to all");
  assert.deepEqual(new Uint8Array(await ann.next()), new Uint8Array([1, 2]));
  for (const peer of peers) await peer.silent();
});

test("an alarm reaches those who are there", async (t) => {
  const ann = Peer.party(t, server, { room: "alarm" });
  const bob = Peer.party(t, server, { room: "alarm" });
  await bob.ask("here");
  ann.send({ alarm_ms: 50 });
  for (const peer of [ann, bob]) assert.deepEqual(await peer.json(), { alarm: "alarm" });
});

test("a party's socket asks another party", async (t) => {
  const watcher = Peer.party(t, server, { party: "counter", room: "asked" });
  await watcher.open();
  const peer = Peer.party(t, server, { party: "p2p", room: "asked" });
  assert.deepEqual(await peer.ask("hello"), { counter: 1 });
  assert.deepEqual(await watcher.json(), { count: 1, text: "hello" });
});

test("a handshake without key, of another version, or by POST is refused", async () => {
  assert.equal((await server.fetch("GET", "/parties/main/x", { headers: UPGRADE })).status, 400);
  const wrong = { ...UPGRADE, "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version": "8" };
  const { status, headers } = await server.fetch("GET", "/parties/main/x", { headers: wrong });
  assert.deepEqual([status, headers["sec-websocket-version"]], [426, "13"]);
  const posted = { ...wrong, "sec-websocket-version": "13" };
  assert.ok((await server.fetch("POST", "/parties/main/x", { headers: posted })).status >= 400);
});

test("PartySocket.fetch and a socket reach the same room", async (t) => {
  const ann = Peer.party(t, server, { room: "both" });
  const post = async (path) => (await PartySocket.fetch({ host: server.host, room: "both", path }, { method: "POST" })).json();
  ann.send({ put: ["key", 1] });
  assert.deepEqual(await ann.ask({ get: "key" }), { key: "key", value: 1 });
  assert.deepEqual(await post("increment"), { number: 1 });
  assert.equal((await post("deep/down")).room, "both");
});
