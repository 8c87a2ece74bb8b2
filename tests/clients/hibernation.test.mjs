// A room that leaves memory while its sockets stay. `hib` does so after a second, and counts how often it was built.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Peer, pause, until } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const ASLEEP_MS = 2500; // a second without an event, and time to spare
const server = await Server.start("--socket-ping-s", "0.3");
after(() => server.remove());

const hib = (t, room, id, query) => Peer.party(t, server, { party: "hib", room, id, query });
const constructed = async (peer) => (await peer.ask("how often?")).constructed;

test("sockets, tags and state stay, on_connect does not run again, broadcasts reach all", async (t) => {
  const ann = hib(t, "stay", "ann", { tags: "red", greet: "1" });
  assert.deepEqual(await ann.json(), { greeting: 1 });
  ann.send({ set_state: { seat: 7 } });
  assert.equal(await constructed(ann), 1);
  const bob = hib(t, "stay", "bob");
  await bob.ask("here");
  await pause(ASLEEP_MS);
  assert.equal(await constructed(bob), 2);
  assert.deepEqual(await ann.ask({ get_state: 1 }), { state: { seat: 7 } });
  assert.deepEqual((await ann.ask({ who: 1 })).tags.sort(), ["ann", "red"]);
  assert.deepEqual(await bob.ask({ tag: "red" }), { tag: "red", ids: ["ann"] });
  bob.send({ broadcast: "awake" });
  for (const peer of [ann, bob]) assert.equal(await peer.next(), "awake");
  assert.deepEqual([ann.opened, bob.opened], [1, 1]);
});

test("pings and automatic replies wake nobody", async (t) => {
  const ann = hib(t, "auto", "ann");
  assert.equal(await constructed(ann), 1);
  await pause(ASLEEP_MS);
  for (let number = 0; number < 20; number += 1) {
    ann.send("ping");
    assert.equal(await ann.next(), "pong");
    await pause(100); // with the server's own pings in between
  }
  assert.equal(await constructed(ann), 2); // by this question, not by the twenty before it
});

test("an alarm wakes the room, which tells its sockets", async (t) => {
  const ann = hib(t, "alarm", "ann");
  ann.send({ alarm_ms: ASLEEP_MS });
  assert.equal(await constructed(ann), 1);
  assert.deepEqual(await ann.json(), { alarm: "alarm" });
  assert.equal(await constructed(ann), 2);
});

test("a request wakes it, and a new socket finds the old ones", async (t) => {
  const ann = hib(t, "visit", "ann");
  assert.equal(await constructed(ann), 1);
  await pause(ASLEEP_MS);
  assert.equal((await server.fetch("GET", "/parties/hib/visit")).json.constructed, 2);
  await pause(ASLEEP_MS);
  const bob = hib(t, "visit", "bob");
  assert.deepEqual(await bob.ask({ count: 1 }), { count: 2 });
  assert.equal(await constructed(bob), 3);
});

test("a socket that goes while it sleeps runs on_close, and its id can be taken over", async (t) => {
  const watcher = hib(t, "gone", "watcher", { tags: "watch" });
  const path = "/parties/hib/gone?_pk=ann&tags=red";
  const ann = await Peer.plain(t, server, path).open();
  assert.equal(await constructed(ann), 1);
  await watcher.ask("here");
  await pause(ASLEEP_MS);
  const again = await Peer.plain(t, server, path).open();
  assert.deepEqual(await again.ask({ tag: "red" }), { tag: "red", ids: ["ann"] });
  assert.equal((await watcher.json()).code, 1008);
  await pause(ASLEEP_MS);
  again.socket.terminate();
  const { code, here } = await watcher.json();
  assert.deepEqual([code, here], [1006, ["watcher"]]);
  await until(async () => (await watcher.ask({ tag: "red" })).ids.length === 0, "no red socket");
});
