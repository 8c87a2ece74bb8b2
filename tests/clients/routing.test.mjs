// Addresses: which room a path names, what reaches its `fetch`, and how errors look.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import PartySocket from "partysocket";
import { Server } from "./support/server.mjs";

const server = await Server.start();
after(() => server.remove());

test("a room gets the path below it, and the query", async () => {
  const { status, json } = await server.fetch("GET", "/parties/main/lobby/deep/down?a=1&b=c?d");
  assert.equal(status, 200);
  assert.deepEqual(json, { method: "GET", path: "/parties/main/lobby/deep/down", query: "a=1&b=c?d", body: "", room: "lobby" });
});

test("PartySocket.fetch finds it", async () => {
  const options = { host: server.host, room: "lobby", path: "down", query: { a: "1" } };
  const answer = await PartySocket.fetch(options, { method: "POST", body: "text" });
  const path = "/parties/main/lobby/down";
  assert.deepEqual(await answer.json(), { method: "POST", path, query: "a=1", body: "text", room: "lobby" });
});

test("/party is the party called main", async () => {
  const { json } = await server.fetch("POST", "/party/short/increment");
  assert.deepEqual(json, { number: 1 });
  assert.deepEqual((await server.fetch("POST", "/parties/main/short/increment")).json, { number: 2 });
});

const NO_ROOMS = ["/parties", "/parties/", "/parties/main", "/parties/main/", "/party", "/party/", "/parties//lobby"];
for (const path of [...NO_ROOMS, "/parties/nobody/lobby"]) {
  test(`${path} names no room: 404`, async () => {
    assert.equal((await server.fetch("GET", path)).status, 404);
  });
}

test("a party without fetch answers 404", async () => {
  assert.equal((await server.fetch("GET", "/parties/yjs/lobby")).status, 404);
});

test("names are case-sensitive", async () => {
  assert.equal((await server.fetch("GET", "/parties/Main/lobby")).status, 404);
  await server.fetch("POST", "/parties/main/Upper/increment");
  assert.deepEqual((await server.fetch("POST", "/parties/main/upper/increment")).json, { number: 1 });
});

test("the raw path is divided before it is decoded, once", async () => {
  const room = async (path) => (await server.fetch("GET", path)).json.room;
  assert.equal(await room("/parties/main/a%2Fb"), "a/b");
  assert.equal(await room("/parties/main/a/b"), "a");
  assert.equal(await room("/parties/main/%2525"), "%25");
  assert.equal(await room("/parties/main/caf%C3%A9%20%26%3F"), "café &?");
  assert.equal(await room("/parties/%6Dain/x"), "x");
});

test("slashes in a row are one", async () => {
  const { json } = await server.fetch("GET", "//parties///main//lobby//down");
  assert.equal(json.room, "lobby");
});

for (const path of ["/parties/main/%ff", "/parties/main/%C3", "/parties/main/..", "/parties/main/%2e%2e", "/parties/main/a%00b"]) {
  test(`${path} is refused, and the room goes on`, async () => {
    const { status } = await server.fetch("GET", path);
    assert.ok(status >= 400 && status < 500, `${status}`);
    assert.equal((await server.fetch("GET", "/parties/main/lobby")).status, 200);
  });
}

test("a name of 10 kB is refused", async () => {
  const { status } = await server.fetch("GET", `/parties/main/${"a".repeat(10_000)}`);
  assert.ok(status >= 400 && status < 500, `${status}`);
});

test("every method reaches fetch", async () => {
  for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]) {
    assert.equal((await server.fetch(method, "/parties/main/lobby")).json.method, method);
  }
  const head = await server.fetch("HEAD", "/parties/main/lobby");
  assert.deepEqual([head.status, head.text], [200, ""]);
  assert.ok(Number(head.headers["content-length"]) > 0);
});

test("a body of many megabytes goes there and back", async () => {
  const body = "0123456789abcdef".repeat(512 * 1024); // 8 MiB
  const { json } = await server.fetch("POST", "/parties/main/large", { body });
  assert.ok(json.body === body);
});

test("a stream arrives while it goes on, as server-sent events", async () => {
  const [answer, events] = await server.open("GET", "/parties/main/lobby/events", {}, (request) => request.end());
  assert.match(answer.headers["content-type"], /^text\/event-stream/);
  for (const number of [1, 2, 3]) assert.equal((await events.next()).value, `data: ${number}\n\n`);
  answer.destroy();
});

test("an error's code is the status, and below 500 its message is told", async () => {
  const teapot = await server.fetch("GET", "/parties/main/lobby/throw?code=418&message=short+and+stout");
  assert.equal(teapot.status, 418);
  assert.match(teapot.text, /short and stout/);
  const late = await server.fetch("GET", "/parties/main/lobby/throw?code=504&message=a+secret");
  assert.equal(late.status, 504);
  assert.doesNotMatch(late.text, /secret/);
});

test("any other error is 500, and says nothing of itself", async () => {
  for (const code of [399, 600, 0]) {
    const { status, text } = await server.fetch("GET", `/parties/main/lobby/throw?code=${code}&message=a+secret`);
    assert.equal(status, 500);
    assert.doesNotMatch(text, /secret/);
  }
});

test("before_request lets in, refuses with a response, or refuses by raising", async () => {
  const fetch = (query) => PartySocket.fetch({ host: server.host, party: "auth", room: "lobby", query });
  assert.deepEqual(await (await fetch({ token: "ok" })).json(), { user: "ann" });
  const refused = await fetch({});
  assert.deepEqual([refused.status, await refused.text()], [403, "no token, no entry"]);
  const thrown = await fetch({ token: "throw" });
  assert.equal(thrown.status, 401);
  assert.match(await thrown.text(), /the token is spent/);
});

test("a party calls another", async () => {
  assert.deepEqual((await server.fetch("POST", "/parties/p2p/pair", { body: "hello" })).json, { counter: 1 });
  assert.deepEqual((await server.fetch("GET", "/parties/counter/pair")).json, { count: 1, texts: ["hello"] });
});
