"""Which of the other nodes this one can speak to, and so which nodes are good for actors.

A node may hold a lease and yet be out of everybody's reach: another shared key, a firewall, an address that leads nowhere. What it
took in, only its own clients would find. So nodes that have no channel to each other do not ask each other for actors, and a node
that has a channel to nobody takes none in, and gives back those it has. Of two nodes that have lost each other one has to go on:
the first by name.

A channel that breaks proves nothing: its peer may have died, and is a member until its lease is over. So one that stood is
missed only after that.
"""

from __future__ import annotations

import logging

from stead.clock import Clock
from stead.cluster.membership import Membership
from stead.cluster.peers import Peers

LEASES_MISSED = 1.5  # for a dead peer's lease to end, and for its end to be heard of
MARGIN_S = 2.0  # and for a new channel
TOLD_S = 2.0  # a node that has just started is out of reach for a moment
_log = logging.getLogger("stead.cluster")


class Reach:
    """Ask it at any time; `look` at least every second, for it remembers who could be reached.

    Where each node `has_shares` of the actors that nobody else can have, it keeps them whatever it reaches.
    """

    def __init__(self, peers: Peers, membership: Membership, clock: Clock, *, has_shares: bool = False) -> None:
        self._peers = peers
        self._membership = membership
        self._clock = clock
        self._has_shares = has_shares
        self._grace_s = LEASES_MISSED * membership.lease_s + MARGIN_S
        self._seen_s: dict[int, float] = {}  # by incarnation: when there was a channel last
        self._alone_s: float | None = None  # since when there is nobody to speak to
        self._is_told = False

    def sees(self, incarnation: int) -> bool:
        """Whether that node has a channel to this one, or had one lately."""
        now_s = self._clock.elapsed_s()
        if self._peers.is_connected(incarnation):
            self._seen_s[incarnation] = now_s
        seen_s = self._seen_s.get(incarnation)
        return seen_s is not None and now_s - seen_s < self._grace_s

    @property
    def is_cut_off(self) -> bool:
        """Whether this node is the one that the others do without."""
        me, name = self._membership.incarnation, self._membership.info.name
        others = [node for node in self._membership.members() if node.incarnation != me and not node.is_draining]
        if self._has_shares or not others or any(self.sees(node.incarnation) for node in others):
            return False
        return len(others) > 1 or others[0].info.name < name

    @property
    def cut_off_s(self) -> float:
        """For how long this node has been cut off, as far as it has looked; 0 if it is not."""
        return 0.0 if self._alone_s is None or not self.is_cut_off else self._clock.elapsed_s() - self._alone_s

    def look(self) -> bool:
        """Remember who can be reached, and say in the log what is new. Returns whether this node has just been cut off."""
        members = {node.incarnation for node in self._membership.members()}
        self._seen_s = {incarnation: seen_s for incarnation, seen_s in self._seen_s.items() if incarnation in members}
        for incarnation in members:
            self.sees(incarnation)
        was_alone, is_alone = self._alone_s is not None, self.is_cut_off
        now_s = self._clock.elapsed_s()
        if not is_alone:
            if self._is_told:
                _log.info("node %s can speak to others again, and takes actors in", self._membership.info.name)
            self._alone_s, self._is_told = None, False
        elif self._alone_s is None:
            self._alone_s = now_s
        elif not self._is_told and now_s - self._alone_s >= TOLD_S:
            self._is_told = True
            _log.error(
                "node %s has a channel to none of the %d other nodes, takes no actors in and is not ready: "
                "compare its cluster key, --cluster-address and firewall with theirs",
                self._membership.info.name,
                len(members) - 1,
            )
        return is_alone and not was_alone
