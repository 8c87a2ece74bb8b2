// Clients as they are published, with what they receive kept in order.
import PartySocket from "partysocket";
import WS from "ws";

const LIMIT_MS = 20_000; // for anything that should happen at once

/** Poll for a condition. `what` says what did not come about. */
export async function until(condition, what, limitMs = LIMIT_MS) {
  for (const end = Date.now() + limitMs; ; ) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await pause(10);
  }
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A WebSocket and what it heard: `messages` not yet taken, all `closes`, how often it was open. */
export class Peer {
  messages = [];
  closes = [];
  opened = 0;

  constructor(socket) {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => (this.opened += 1));
    socket.addEventListener("message", (event) => this.messages.push(event.data));
    socket.addEventListener("close", ({ code, reason }) => this.closes.push({ code, reason }));
    socket.addEventListener("error", () => {}); // a close follows
  }

  /** `partysocket` in a room, closed when the test ends. Reconnects fast, so that tests need not wait. */
  static party(t, server, { party = "main", ...options }) {
    const fast = { minReconnectionDelay: 100, maxReconnectionDelay: 200 };
    const peer = new this(new PartySocket({ host: server.host, party, WebSocket: WS, ...fast, ...options }));
    t.after(() => peer.socket.close());
    return peer;
  }

  /** A plain `ws` at a path, cut off when the test ends. */
  static plain(t, server, path, protocols = [], options = {}) {
    const peer = new this(new WS(`ws://${server.host}${path}`, protocols, options));
    t.after(() => peer.socket.terminate());
    return peer;
  }

  send(value) {
    this.socket.send(value instanceof Uint8Array || typeof value === "string" ? value : JSON.stringify(value));
  }

  /** The next message, as it came. */
  async next() {
    await until(() => this.messages.length, "a message");
    return this.messages.shift();
  }

  /** The next message, which is JSON. */
  async json() {
    return JSON.parse(await this.next());
  }

  /** Send, and wait for the answer, which is JSON. */
  async ask(value) {
    this.send(value);
    return this.json();
  }

  /** The close event number `count`. */
  async closed(count = 1) {
    await until(() => this.closes.length >= count, "a close");
    return this.closes[count - 1];
  }

  async open(count = 1) {
    await until(() => this.opened >= count, "an open");
    return this;
  }

  /** Nothing more has come by the time that the server has answered a question. */
  async silent() {
    const answer = await this.ask({ count: 1 });
    if (!("count" in answer)) throw new Error(`there was a message: ${JSON.stringify(answer)}`);
  }
}
