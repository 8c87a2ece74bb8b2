// The counter as Durable Objects on SQLite: one class that counts under a key, one that counts in a row.
import { DurableObject } from "cloudflare:workers";

export class KvCounter extends DurableObject {
  async increment() {
    const value = ((await this.ctx.storage.get("value")) ?? 0) + 1;
    await this.ctx.storage.put("value", value);
    return value;
  }

  async current() {
    return (await this.ctx.storage.get("value")) ?? 0;
  }

  async fetch(request) {
    return new Response(String(request.method === "POST" ? await this.increment() : await this.current()));
  }
}

export class SqlCounter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)");
  }

  increment() {
    const query = "INSERT INTO counter VALUES (1, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value";
    return this.ctx.storage.sql.exec(query).one().value;
  }

  current() {
    const rows = this.ctx.storage.sql.exec("SELECT value FROM counter").toArray();
    return rows.length ? rows[0].value : 0;
  }

  async fetch(request) {
    return new Response(String(request.method === "POST" ? this.increment() : this.current()));
  }
}

export default {
  async fetch(request, env) {
    const [, kind, name] = new URL(request.url).pathname.split("/");
    if (kind === "") return new Response("hello");
    const namespace = { kv: env.KV, sql: env.SQL }[kind];
    if (namespace === undefined || !name) return new Response("no such path", { status: 404 });
    return namespace.get(namespace.idFromName(name)).fetch(request);
  },
};
