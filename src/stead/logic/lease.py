"""How far a node may trust its lease, by the time since it asked for it.

The engine grants a lease of `lease_s` at some moment after the node asked, and counts by its own clock. So a node that counts from
the moment *before* it asked is early, never late. What is left of the lease past HARD_SHARE is for clocks that do not run at the
same speed, and for what takes time between looking at the lease and acting on it.
"""

from __future__ import annotations

from enum import Enum

LEASE_S = 6.0  # how long the actors of a node that died stay out of reach
RENEW_SHARE = 0.25  # of a lease: two renewals may fail before anything is felt
SOFT_SHARE = 0.6
HARD_SHARE = 0.85
RETRY_SHARE = 0.05  # the pause after a renewal that failed


class Standing(Enum):
    """What a lease allows."""

    FIRM = "firm"  # everything
    WANING = "waning"  # to go on with the actors that are here, not to take more
    OVER = "over"  # nothing: others may take the actors over before long


def standing(age_s: float, lease_s: float) -> Standing:
    """How a lease stands so long after it was asked for."""
    if age_s < lease_s * SOFT_SHARE:
        return Standing.FIRM
    return Standing.WANING if age_s < lease_s * HARD_SHARE else Standing.OVER
