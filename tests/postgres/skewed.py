"""`stead` on a machine whose wall clock is wrong: `python skewed.py SECONDS serve DIR …`."""

from __future__ import annotations

import sys

from stead.cli import main
from stead.clock import SystemClock

if __name__ == "__main__":
    skew_ms = int(float(sys.argv.pop(1)) * 1000)
    right_ms = SystemClock.now_ms

    def wrong_ms(self: SystemClock) -> int:
        return right_ms(self) + skew_ms

    SystemClock.now_ms = wrong_ms  # type: ignore[method-assign]
    main()
