"""Many nodes as one: who there is, and what they say to each other. See DESIGN.md."""

from stead.cluster.balancing import Balancing
from stead.cluster.conversation import PAYLOAD_BYTES_MAX, WINDOW_BYTES, Conversation, Listener
from stead.cluster.keys import KEY_VARIABLE, Keys, check_exposure, read_keys, split_address
from stead.cluster.membership import Lease, Membership, Watcher
from stead.cluster.network import Listening, Network, Receiver, Wire
from stead.cluster.part import ClusterPart
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.places import Places
from stead.cluster.reach import Reach
from stead.cluster.router import Router
from stead.cluster.tls import TlsFiles
from stead.cluster.websocket import WebSocketNetwork
from stead.cluster.wishes import Wishes

__all__ = [
    "KEY_VARIABLE",
    "PAYLOAD_BYTES_MAX",
    "WINDOW_BYTES",
    "Balancing",
    "ClusterPart",
    "Conversation",
    "Lease",
    "Keys",
    "Listener",
    "Listening",
    "Membership",
    "Network",
    "Peers",
    "Places",
    "Reach",
    "Receiver",
    "Router",
    "TlsFiles",
    "Unreachable",
    "Watcher",
    "WebSocketNetwork",
    "Wire",
    "Wishes",
    "check_exposure",
    "read_keys",
    "split_address",
]
