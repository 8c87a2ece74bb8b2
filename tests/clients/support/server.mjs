// A `stead serve examples/parties` of one's own, on loopback and with data of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const PYTHON = process.env.PYTHON ?? join(ROOT, ".venv/bin/python");
const STEAD = ["-c", "from stead.cli import main; main()"];
const LIMIT_MS = 60_000; // for whatever a process is waited for: many times what it takes

export class Server {
  #process = null;
  #data;
  #flags;
  port;
  errors = ""; // what it wrote to standard error, over all its lives

  /** A server that is ready. It ends with the process of the test at the latest. */
  static async start(...flags) {
    const server = new Server();
    server.#flags = flags;
    server.#data = await mkdtemp(join(tmpdir(), "stead-clients-"));
    server.port = await freePort();
    process.once("exit", () => server.#process?.kill("SIGKILL"));
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1)); // or there would be no exit to hear of
    await server.resume();
    return server;
  }

  get host() {
    return `127.0.0.1:${this.port}`;
  }

  /** Start it again where it was, on its data. */
  async resume() {
    const flags = ["--port", String(this.port), "--data", this.#data, ...this.#flags];
    const command = [...STEAD, "serve", join(ROOT, "examples/parties"), ...flags];
    const child = spawn(PYTHON, command, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    child.stderr.on("data", (text) => (this.errors += text));
    const signal = AbortSignal.timeout(LIMIT_MS);
    const line = await Promise.race([once(child.stdout, "data", { signal }), once(child, "exit", { signal })]);
    if (!String(line[0]).startsWith("ready ")) throw new Error(`the server did not start: ${this.errors}`);
    const { status } = await this.fetch("GET", "/_stead/ready");
    if (status !== 200) throw new Error(`the server is not ready but ${status}`);
  }

  /** End it with a signal and wait for that. Returns the exit code, null if the signal killed it. */
  async end(signal) {
    const ended = once(this.#process, "exit", { signal: AbortSignal.timeout(LIMIT_MS) });
    this.#process.kill(signal);
    this.#process = null;
    return (await ended)[0];
  }

  /** Let nothing of it stay. Throws if it has lost an error that nobody was to see. */
  async remove() {
    if (this.#process !== null) await this.end("SIGKILL");
    await rm(this.#data, { recursive: true, force: true });
    const stray = this.errors.match(/.*(never retrieved|never awaited|exception in callback|task was destroyed).*/i);
    if (stray) throw new Error(`the server wrote: ${stray[0]}`);
  }

  /** A request whose path is sent as it is written. */
  async fetch(method, path, { headers = {}, body } = {}) {
    const [answer, read] = await this.open(method, path, headers, (sent) => sent.end(body));
    let text = "";
    for await (const piece of read) text += piece;
    const is_json = /json/.test(answer.headers["content-type"] ?? "");
    return { status: answer.statusCode, headers: answer.headers, text, json: is_json && text ? JSON.parse(text) : null };
  }

  /** A request that `write` sends the body of. Returns the response and its body as an async iterator of text. */
  async open(method, path, headers, write) {
    const sent = request({ host: "127.0.0.1", port: this.port, method, path, headers, agent: false });
    const answered = once(sent, "response", { signal: AbortSignal.timeout(LIMIT_MS) });
    write(sent);
    const [answer] = await answered;
    answer.setEncoding("utf8");
    return [answer, answer[Symbol.asyncIterator]()];
  }
}

// Below the range that systems take ports from by themselves: a server that is killed finds its port free when it comes back, and a
// client that tries meanwhile never meets a stranger, or itself.
async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const probe = createServer().listen(port, "127.0.0.1");
    const isFree = await Promise.race([once(probe, "listening").then(() => true), once(probe, "error").then(() => false)]);
    if (isFree) {
      await new Promise((done) => probe.close(done));
      return port;
    }
  }
}
