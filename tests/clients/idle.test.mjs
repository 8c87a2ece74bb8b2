// 75 seconds in which nobody does anything. The Yjs clients give a connection up after 30 s without a message, proxies after 60.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { KINDS, Editor } from "./support/providers.mjs";
import { Peer, pause } from "./support/peers.mjs";
import { Server } from "./support/server.mjs";

const IDLE_MS = 75_000;
const server = await Server.start();
after(() => server.remove());

test("no client reconnects in 75 idle seconds, and all still work", async (t) => {
  const alone = KINDS.map((kind) => new Editor(t, server, kind, `alone ${kind}`));
  const together = KINDS.map((kind) => new Editor(t, server, kind, "together"));
  const editors = [...alone, ...together];
  for (const editor of editors) await editor.synced();
  const peers = ["main", "hib"].map((party) => Peer.party(t, server, { party, room: "idle" }));
  for (const peer of peers) await peer.ask("here");
  peers[1].send({ set_state: "kept" });

  await pause(IDLE_MS);

  for (const editor of editors) assert.equal(editor.connections, 1, `${editor.kind} reconnected`);
  for (const peer of peers) assert.deepEqual([peer.opened, peer.closes], [1, []]);
  assert.deepEqual(await peers[1].ask({ get_state: 1 }), { state: "kept" });
  assert.equal((await peers[0].ask("still here")).echo, "still here");
  for (const editor of together) editor.map.set(editor.kind, 1);
  for (const editor of together) for (const kind of KINDS) await editor.sees(kind, 1);
  for (const editor of alone) {
    editor.map.set("still", "here");
    const late = await new Editor(t, server, editor.kind, `alone ${editor.kind}`).synced();
    await late.sees("still", "here");
  }
});
