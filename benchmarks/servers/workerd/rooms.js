// A room that says what it hears to everyone, and counts its visits.
import { Server, routePartykitRequest } from "partyserver";

export class Room extends Server {
  onMessage(connection, message) {
    this.broadcast(message);
  }

  async onRequest(request) {
    const visits = ((await this.ctx.storage.get("visits")) ?? 0) + 1;
    await this.ctx.storage.put("visits", visits);
    return new Response(String(visits));
  }
}

export default {
  async fetch(request, env) {
    return (await routePartykitRequest(request, env)) ?? new Response("hello");
  },
};
