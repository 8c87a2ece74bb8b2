"""What befalls one node of a cluster of NODES, from its beginning to its end, so that the next one finds all of them there."""

from __future__ import annotations

from stead.clock import sleep
from stead.testing import Cluster

NODES = 3
FAULT_S = 9.0  # so long it lasts at most: half as long again as a lease
CALM_S = 20.0  # after which everything works again


async def befall(cluster: Cluster, what: str, node: int, fault_s: float) -> None:
    """It dies, stops in order, freezes, loses the database or a peer, all for `fault_s`; or the database fails over."""
    match what:
        case "dies" if cluster.is_alive(node):
            await cluster.kill(node)
            await sleep(fault_s)
            await cluster.restart(node)
        case "stops" if cluster.is_alive(node):
            await cluster.stop(node)
            await sleep(fault_s)
            await cluster.restart(node)
        case "freezes":
            cluster.pause(node)
            await sleep(fault_s)
            cluster.resume(node)
        case "loses the database" | "loses a peer":
            cluster.partition(node, "database" if what == "loses the database" else (node + 1) % NODES)
            await sleep(fault_s)
            cluster.heal()
        case "fails over":
            cluster.failover()
        case _:
            assert what in {"dies", "stops"}, f"nothing is known of a node that {what}"
