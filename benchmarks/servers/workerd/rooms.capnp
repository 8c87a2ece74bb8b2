# The room for workerd, with partyserver as npm brings it: plain modules, so nothing is bundled. Actors stay in memory, where they are
# counted. The address of the socket and the directory of the disk come from the command line.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "rooms", worker = .rooms),
    (name = "data", disk = (writable = true)),
  ],
  sockets = [(name = "http", http = (), service = "rooms")],
);

const rooms :Workerd.Worker = (
  modules = [
    (name = "rooms.js", esModule = embed "rooms.js"),
    (name = "partyserver", esModule = embed "../../node_modules/partyserver/dist/index.js"),
    (name = "nanoid", esModule = embed "../../node_modules/nanoid/index.browser.js"),
    (name = "url-alphabet/index.js", esModule = embed "../../node_modules/nanoid/url-alphabet/index.js"),
  ],
  compatibilityDate = "2026-01-01",
  durableObjectNamespaces = [(className = "Room", uniqueKey = "room", enableSql = true, preventEviction = true)],
  durableObjectStorage = (localDisk = "data"),
  bindings = [(name = "Main", durableObjectNamespace = "Room")],
);
