# The counter for workerd. The address of the socket and the directory of the disk come from the command line.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "counter", worker = .counter),
    (name = "data", disk = (writable = true)),
  ],
  sockets = [(name = "http", http = (), service = "counter")],
);

const counter :Workerd.Worker = (
  modules = [(name = "counter.js", esModule = embed "counter.js")],
  compatibilityDate = "2026-01-01",
  durableObjectNamespaces = [
    (className = "KvCounter", uniqueKey = "kv-counter", enableSql = true),
    (className = "SqlCounter", uniqueKey = "sql-counter", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "data"),
  bindings = [
    (name = "KV", durableObjectNamespace = "KvCounter"),
    (name = "SQL", durableObjectNamespace = "SqlCounter"),
  ],
);
