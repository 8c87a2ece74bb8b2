// The three Yjs providers as they are published, each with a document, and what came over their sockets.
import WS from "ws";
import YPartyKitProvider from "y-partykit/provider";
import YProvider from "y-partyserver/provider";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { until } from "./peers.mjs";

/** Every socket of a provider, and the texts that it was sent. */
function recorded() {
  const record = { sockets: [], texts: [] };
  record.WebSocket = class extends WS {
    constructor(...args) {
      super(...args);
      record.sockets.push(this);
      this.on("message", (data, isBinary) => isBinary || record.texts.push(String(data)));
    }
  };
  return record;
}

const OPEN = {
  "y-websocket": (server, party, room, doc, options) =>
    new WebsocketProvider(`ws://${server.host}/parties/${party}`, room, doc, options),
  "y-partykit": (server, party, room, doc, options) => new YPartyKitProvider(server.host, room, doc, { ...options, party }),
  "y-partyserver": (server, party, room, doc, options) => new YProvider(server.host, room, doc, { ...options, party }),
};

export const KINDS = Object.keys(OPEN);

/** A document in a room, through a provider of that kind. It is destroyed when the test ends. */
export class Editor {
  constructor(t, server, kind, room, { party = "yjs", params = {} } = {}) {
    this.doc = new Y.Doc();
    this.record = recorded();
    const options = { WebSocketPolyfill: this.record.WebSocket, disableBc: true, params, maxBackoffTime: 200 };
    this.provider = OPEN[kind](server, party, room, this.doc, options);
    this.kind = kind;
    t.after(() => {
      this.provider.destroy();
      this.provider.awareness.destroy();
    });
  }

  get map() {
    return this.doc.getMap("map");
  }

  get text() {
    return this.doc.getText("text");
  }

  get awareness() {
    return this.provider.awareness;
  }

  /** How many connections it has made. */
  get connections() {
    return this.record.sockets.length;
  }

  async synced() {
    await until(() => this.provider.synced, `${this.kind} in sync`);
    return this;
  }

  /** Lose the connection without a word. */
  cut() {
    this.record.sockets.at(-1).terminate();
  }

  async sees(key, value) {
    await until(() => JSON.stringify(this.map.get(key)) === JSON.stringify(value), `${this.kind} sees ${key}`);
  }

  async seesState(client, state) {
    const seen = () => JSON.stringify(this.awareness.getStates().get(client));
    await until(() => seen() === JSON.stringify(state), `${this.kind} sees ${JSON.stringify(state)} of ${client}`);
  }
}

/** All have the same document. */
export async function converged(editors) {
  const states = () => new Set(editors.map(({ text, map }) => JSON.stringify([text.toString(), [...map.entries()].sort()])));
  await until(() => states().size === 1, "all see the same");
}
