"""When a recurring alarm is due next."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from stead.errors import Invalid

EVERY_MS_MIN = 1_000  # a shorter period is a loop, not an alarm

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def next_every_ms(scheduled_ms: int, every_ms: int, now_ms: int) -> int:
    """The first multiple of the period after `scheduled_ms` that lies in the future: what was missed runs once."""
    return scheduled_ms + every_ms * (max(0, now_ms - scheduled_ms) // every_ms + 1)


def next_cron_ms(expression: str, after_ms: int) -> int:
    """The first moment after `after_ms` that a cron expression (five fields, UTC) names. Raises `Invalid` if there is none."""
    after = datetime.fromtimestamp(after_ms / 1000, UTC)
    try:
        return int(next(CronSim(_NICKNAMES.get(expression, expression), after)).timestamp() * 1000)
    except CronSimError as exc:
        raise Invalid(
            f"{expression!r} is no cron expression (minute hour day month weekday, or @daily and the like): {exc}"
        ) from exc
    except StopIteration:
        raise Invalid(f"the cron expression {expression!r} never comes true") from None
