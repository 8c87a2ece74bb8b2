// kill -9 with messages on their way in both directions: what was acknowledged is there, what waited arrives, nothing twice.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Peer, until } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const LIVES = 4; // of the server; all but the last end by a kill under load
const server = await Server.start();
after(() => server.remove());

/** A socket of `counter`, which numbers what it is sent and tells everybody: what it sent, by turns to a server that is there and
 *  to one that is not, and what it was told. */
class Noter extends Peer {
  writes = [];
  told = new Map();

  write(count) {
    const texts = Array.from({ length: count }, (_, number) => `${this.socket.id} ${this.writes.length} ${number}`);
    this.writes.push(texts);
    texts.forEach((text) => this.send(text));
  }

  /** The number of each note that was acknowledged by now. */
  acknowledged() {
    for (const { count, text } of this.messages.splice(0).map((message) => JSON.parse(message))) {
      assert.ok(!this.told.has(text), `${text} was announced twice`);
      this.told.set(text, count);
    }
    return this.told;
  }
}

test("notes are kept in order, once each, over kills of the server", async (t) => {
  const noters = ["ann", "bob", "cat"].map((id) => Noter.party(t, server, { party: "counter", room: "notes", id }));
  for (let life = 1; life <= LIVES; life += 1) {
    for (const noter of noters) {
      await noter.open(life);
      const waiting = noter.writes.at(-1) ?? [];
      await until(() => waiting.every((text) => noter.acknowledged().has(text)), "what was sent while the server was away");
    }
    if (life === LIVES) break;
    const before = noters[0].acknowledged().size;
    for (const noter of noters) noter.write(300); // some are acknowledged, the rest waits in the mailbox, its answers at the gate
    await until(() => noters[0].acknowledged().size > before + 100, "some are acknowledged");
    await server.end("SIGKILL");
    for (const [each, noter] of noters.entries()) {
      await until(() => noter.socket.readyState !== noter.socket.OPEN, "the end of a connection");
      noter.write(50 + each); // these wait in partysocket
    }
    await server.resume();
  }

  const { texts } = (await server.fetch("GET", "/parties/counter/notes")).json;
  assert.equal(new Set(texts).size, texts.length, "nothing is there twice");
  let missing = 0;
  for (const noter of noters) {
    for (const [text, number] of noter.acknowledged()) assert.equal(texts[number - 1], text, "what was acknowledged is there");
    for (const [number, sent] of noter.writes.entries()) {
      const kept = texts.filter((text) => text.startsWith(`${noter.socket.id} ${number} `));
      assert.deepEqual(kept, sent.slice(0, kept.length), "in order, without a gap");
      if (number % 2 === 1) assert.equal(kept.length, sent.length, "what waited for the server is not lost");
      missing += sent.length - kept.length;
    }
  }
  t.diagnostic(`${texts.length} notes; ${missing} that were under way at a kill, and acknowledged to nobody, are not there`);
});

test("an alarm that was set before a kill reaches who came back", async (t) => {
  const ann = Peer.party(t, server, { room: "alarm" });
  ann.send({ alarm_ms: 8000 }); // time to come back first, also on a busy machine
  await ann.ask("here");
  await server.end("SIGKILL");
  await server.resume();
  await ann.open(2);
  assert.deepEqual(await ann.json(), { alarm: "alarm" });
});

test("the id, tags and hooks are as before, state ends with its connection", async (t) => {
  const ann = Peer.party(t, server, { room: "back", id: "ann", query: { tags: "red" } });
  ann.send({ set_state: 1 });
  ann.send({ put: ["key", { deep: [1, "ü"] }] });
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: 1 });
  await server.end("SIGKILL");
  await server.resume();
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: null });
  assert.deepEqual(await ann.ask({ tag: "red" }), { tag: "red", ids: ["ann"] });
  assert.deepEqual(await ann.ask({ get: "key" }), { key: "key", value: { deep: [1, "ü"] } });
});
