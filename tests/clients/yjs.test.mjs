// Documents of a YRoom through the three providers that are in use, unchanged.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import * as awarenessProtocol from "y-protocols/awareness";
import * as Y from "yjs";
import { KINDS, Editor, converged } from "./support/providers.mjs";
import { Peer, pause, until } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const server = await Server.start();
after(() => server.remove());

async function editors(t, room, options = {}) {
  const all = KINDS.map((kind) => new Editor(t, server, kind, room, options));
  for (const editor of all) await editor.synced();
  return all;
}

test("three providers share a document", async (t) => {
  const all = await editors(t, "shared");
  for (const editor of all) editor.map.set(editor.kind, { by: editor.kind });
  for (const editor of all) for (const kind of KINDS) await editor.sees(kind, { by: kind });
  for (const editor of all) editor.text.insert(0, `${editor.kind} `);
  await converged(all);
  await until(() => all[0].text.length === KINDS.join(" ").length + 1, "all three texts");
});

test("offline edits of all three survive a kill of the server, and one who comes later gets them", async (t) => {
  const all = await editors(t, "kept");
  all[0].map.set("before", 1);
  for (const editor of all) await editor.sees("before", 1);
  await server.end("SIGKILL");
  for (const editor of all) await until(() => !editor.provider.wsconnected, `${editor.kind} offline`);
  for (const editor of all) {
    editor.map.set(`offline ${editor.kind}`, true);
    editor.text.insert(0, `${editor.kind} `);
  }
  all[1].map.set("before", 2);
  await server.resume();
  for (const editor of all) {
    for (const kind of KINDS) await editor.sees(`offline ${kind}`, true);
    await editor.sees("before", 2);
  }
  await converged(all);
  const text = all[0].text.toString();
  for (const kind of KINDS) assert.equal(text.split(`${kind} `).length, 2, "no edit is lost or there twice");
  for (const editor of all) editor.provider.disconnect();
  await server.end("SIGKILL");
  await server.resume();
  const late = await new Editor(t, server, "y-websocket", "kept").synced();
  assert.equal(late.text.toString(), text);
  assert.deepEqual(late.map.toJSON(), all[0].map.toJSON());
});

test("random edits under lost connections and kills of the server make one document", async (t) => {
  const all = await editors(t, "random");
  const below = (bound) => Math.floor(Math.random() * bound);
  for (let step = 1; step <= 600; step += 1) {
    const editor = all[below(all.length)];
    const { text, map } = editor;
    if (below(4) === 0 && text.length > 5) text.delete(below(text.length - 3), 3);
    else text.insert(below(text.length + 1), `${step} `);
    if (below(5) === 0) map.set(String(below(20)), step);
    if (below(40) === 0) editor.cut();
    if (step % 200 === 0) {
      await server.end("SIGKILL");
      await server.resume();
    } else if (below(3) === 0) await pause(below(8));
  }
  for (const editor of all) await editor.synced();
  all[0].map.set("end", true);
  await converged(all);
  const late = await new Editor(t, server, "y-websocket", "random").synced();
  await converged([...all, late]);
});

for (const kind of KINDS) {
  test(`who is there: ${kind} shows its state, changes it, and is gone when it leaves`, async (t) => {
    const watchers = await editors(t, `who ${kind}`);
    for (const leave of [(editor) => editor.provider.destroy(), (editor) => editor.cut()]) {
      const guest = await new Editor(t, server, kind, `who ${kind}`).synced();
      for (const state of [{ name: "guest" }, { name: "guest", cursor: 3 }]) {
        guest.awareness.setLocalState(state);
        for (const watcher of watchers) await watcher.seesState(guest.doc.clientID, state);
      }
      watchers[0].awareness.setLocalState({ name: "host" });
      await guest.seesState(watchers[0].doc.clientID, { name: "host" });
      guest.provider.shouldConnect = false;
      leave(guest);
      for (const watcher of watchers) await watcher.seesState(guest.doc.clientID, undefined);
    }
  });

  test(`who is there: ${kind} is seen again once it has lost its connection and come back`, async (t) => {
    const watchers = await editors(t, `back ${kind}`);
    const guest = await new Editor(t, server, kind, `back ${kind}`).synced();
    guest.awareness.setLocalState({ name: "guest" });
    for (const watcher of watchers) await watcher.seesState(guest.doc.clientID, { name: "guest" });
    guest.cut();
    await until(() => guest.connections === 2 && guest.provider.synced, "back");
    await pause(100);
    for (const watcher of watchers) await watcher.seesState(guest.doc.clientID, { name: "guest" });
  });

  test(`an update by ${kind} of 2.5 MB, in pieces or as a frame, reaches all`, async (t) => {
    const all = await editors(t, `large ${kind}`);
    const author = all.find((editor) => editor.kind === kind);
    const large = "0123456789".repeat(250_000);
    author.map.set("large", large);
    for (const editor of all) await until(() => editor.map.get("large") === large, `${editor.kind} has it`);
    author.map.set("frame", "x".repeat(1_500_000));
    for (const editor of all) await until(() => editor.map.get("frame")?.length === 1_500_000, `${editor.kind} has the frame`);
    const late = await new Editor(t, server, kind, `large ${kind}`).synced();
    assert.equal(late.map.get("large"), large);
    for (const editor of all) assert.equal(editor.connections, 1);
  });

  test(`a large offline edit by ${kind} arrives with its SyncStep2`, async (t) => {
    const [other] = await editors(t, `step2 ${kind}`);
    const author = await new Editor(t, server, kind, `step2 ${kind}`).synced();
    author.cut();
    await until(() => !author.provider.wsconnected, "offline");
    const large = "0123456789".repeat(250_000);
    author.map.set("large", large);
    await until(() => other.map.get("large") === large, "it arrives");
  });

  test(`a read-only ${kind} sees all and changes nothing`, async (t) => {
    const room = `read ${kind}`;
    const [writer] = await editors(t, room, { party: "yro" });
    const reader = await new Editor(t, server, kind, room, { party: "yro", params: { ro: "1" } }).synced();
    writer.map.set("by", "writer");
    await reader.sees("by", "writer");
    reader.map.set("by", "reader");
    reader.map.set("more", 1);
    reader.awareness.setLocalState({ name: "reader" }); // goes the same way, behind the changes
    await writer.seesState(reader.doc.clientID, { name: "reader" });
    reader.cut(); // its next SyncStep2 holds the changes, too
    await until(() => reader.connections === 2 && reader.provider.synced, "back");
    reader.awareness.setLocalState({ name: "still reading" });
    await writer.seesState(reader.doc.clientID, { name: "still reading" });
    assert.deepEqual(writer.map.toJSON(), { by: "writer" });
    const late = await new Editor(t, server, kind, room, { party: "yro" }).synced();
    assert.deepEqual(late.map.toJSON(), { by: "writer" });
  });
}

test("y-websocket takes 4400 to 4499 as final, and tries again after others", async (t) => {
  const final = new Editor(t, server, "y-websocket", "closed", { party: "yro", params: { close: "4403" } });
  const [{ code, reason }] = await once(final.provider, "closed");
  assert.deepEqual([code, reason], [4403, "on demand"]);
  const other = new Editor(t, server, "y-websocket", "closed", { party: "yro", params: { close: "4500" } });
  await until(() => other.connections >= 3, "more attempts");
  assert.equal(final.connections, 1);
});

const once = (provider, event) => new Promise((done) => provider.once(event, (...args) => done(args)));

test("custom messages go both ways, and nobody else is sent text", async (t) => {
  const all = await editors(t, "custom");
  const [plain, partykit, ann] = all;
  const bob = await new Editor(t, server, "y-partyserver", "custom").synced();
  const heard = { ann: [], bob: [] };
  ann.provider.on("custom-message", (message) => heard.ann.push(message));
  bob.provider.on("custom-message", (message) => heard.bob.push(message));
  ann.provider.sendMessage("one");
  await until(() => heard.ann.length === 1, "ann's echo");
  bob.provider.sendMessage(JSON.stringify({ action: "two" }));
  await until(() => heard.ann.length === 2 && heard.bob.length === 1, "bob's message");
  assert.deepEqual(heard, { ann: ["one", '{"action":"two"}'], bob: ['{"action":"two"}'] });
  plain.map.set("done", 1);
  await partykit.sees("done", 1);
  assert.deepEqual([plain.record.texts, partykit.record.texts], [[], []]);
});

// -- byte for byte ----------------------------------------------------------------------------------------------------

const [SYNC, AWARENESS, QUERY] = [0, 1, 3];

/** A socket that speaks for itself, past what greets it. */
async function plain(t, room) {
  const peer = await Peer.plain(t, server, `/parties/yjs/${encodeURIComponent(room)}`).open();
  const [type, step] = new Uint8Array(await peer.next());
  assert.deepEqual([type, step], [SYNC, 0], "a room greets with SyncStep1");
  return peer;
}

/** An awareness message about one client. */
function awareness(client, clock, state) {
  const json = Buffer.from(JSON.stringify(state));
  return Buffer.from([AWARENESS, 4 + json.length, 1, client, clock, json.length, ...json]);
}

test("updates and awareness go to their sender, too, and its end to the others", async (t) => {
  const peer = await plain(t, "echo");
  const other = await plain(t, "echo");
  const state = awareness(7, 1, { name: "seven" });
  peer.send(state);
  assert.deepEqual(Buffer.from(await peer.next()), state);
  peer.send(awareness(7, 2, { name: "seven" })); // a renewal is news
  assert.deepEqual(Buffer.from(await peer.next()), awareness(7, 2, { name: "seven" }));
  const author = await new Editor(t, server, "y-websocket", "echo").synced();
  author.map.set("key", 1);
  await until(() => peer.messages.some((data) => new Uint8Array(data)[0] === SYNC), "the update");
  const before = author.provider.wsLastMessageReceived;
  await pause(20);
  author.map.set("key", 2);
  await until(() => author.provider.wsLastMessageReceived > before, "its own echo");
  peer.socket.terminate();
  await until(() => other.messages.some((data) => awareness(7, 3, null).equals(Buffer.from(data))), "the end of seven");
});

test("a query is answered with all states", async (t) => {
  const editor = await new Editor(t, server, "y-websocket", "query").synced();
  editor.awareness.setLocalState({ name: "editor" });
  const peer = await plain(t, "query");
  await until(() => peer.messages.length, "the states that greet it");
  peer.messages.splice(0);
  peer.send(new Uint8Array([QUERY]));
  const [type, ...payload] = new Uint8Array(await peer.next());
  assert.equal(type, AWARENESS);
  const own = new awarenessProtocol.Awareness(new Y.Doc());
  t.after(() => own.destroy());
  awarenessProtocol.applyAwarenessUpdate(own, new Uint8Array(payload.slice(1)), "test");
  assert.deepEqual(own.getStates().get(editor.doc.clientID), { name: "editor" });
});

const marker = (type, size, count, id = "x") => `y-pk-batch#${JSON.stringify({ id, type, size, count })}`;

/** An update that nobody may ever see. */
function smuggled() {
  const doc = new Y.Doc();
  doc.getMap("map").set("smuggled", true);
  const update = Y.encodeStateAsUpdate(doc);
  return new Uint8Array([SYNC, 2, update.length, ...update]);
}

const SMUGGLED = smuggled();
const SIZE = SMUGGLED.length;
const MALFORMED = {
  "an empty frame": [new Uint8Array()],
  "an unknown type": [new Uint8Array([99, 1, 2, 3])],
  "a truncated integer": [new Uint8Array([0x80, 0x80])],
  "an integer without end": [new Uint8Array(64).fill(0xff)],
  "a length past the end": [new Uint8Array([SYNC, 2, 200, 1, 0])],
  "a length of 2 GiB": [new Uint8Array([SYNC, 2, 0x80, 0x80, 0x80, 0x80, 8])],
  "an unknown sync step": [new Uint8Array([SYNC, 7, 0])],
  "an update that is none": [new Uint8Array([SYNC, 2, 4, 0xde, 0xad, 0xbe, 0xef])],
  "a state vector that is none": [new Uint8Array([SYNC, 0, 3, 0xff, 0xff, 0xff])],
  "awareness that ends early": [new Uint8Array([AWARENESS, 3, 5, 1, 1])],
  "awareness that is no JSON": [new Uint8Array([AWARENESS, 5, 1, 9, 1, 1, 0x7b])],
  "text that nobody knows": ["hello"],
  "a batch with too few pieces": [marker("start", SIZE, 2), SMUGGLED, marker("end", SIZE, 2)],
  "a batch with too many": [marker("start", SIZE, 1), SMUGGLED.slice(0, 5), SMUGGLED.slice(5), marker("end", SIZE, 1)],
  "a batch with other sizes": [marker("start", SIZE + 1, 1), SMUGGLED, marker("end", SIZE, 1)],
  "a batch that is too short": [marker("start", SIZE + 1, 1), SMUGGLED, marker("end", SIZE + 1, 1)],
  "a batch with another id": [marker("start", SIZE, 1), SMUGGLED, marker("end", SIZE, 1, "y")],
  "a batch that never ends": [marker("start", SIZE, 1), SMUGGLED],
  "an end without a start": [marker("end", 0, 0)],
  "a batch of a terabyte": [marker("start", 2 ** 40, 2 ** 30)],
  "a marker that is no JSON": ["y-pk-batch#{"],
};

for (const [what, messages] of Object.entries(MALFORMED)) {
  test(`${what} is ignored or closed with 1002 or 1008, and the room goes on`, async (t) => {
    const [editor, other] = await editors(t, what);
    const peer = await plain(t, what);
    peer.send(awareness(7, 1, {}));
    await other.seesState(7, {});
    for (const message of messages) peer.send(message);
    peer.socket.close(1000);
    await other.seesState(7, undefined); // the room has handled everything before the end, and the end
    const { code } = await peer.closed();
    assert.ok([1000, 1002, 1008].includes(code), `closed with ${code}`);
    editor.map.set(what, true);
    await other.sees(what, true);
    for (const each of [editor, other]) assert.deepEqual([each.connections, each.map.get("smuggled")], [1, undefined]);
  });
}
