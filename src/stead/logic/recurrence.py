"""When a recurring alarm is due next."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from stead.errors import Invalid

EVERY_MS_MIN = 1_000  # a shorter period is a loop, not an alarm

CRON_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def expand_cron(expression: str) -> str:
    """The five fields that an alias such as `@daily` stands for; what is none comes back as it is."""
    return CRON_ALIASES.get(expression.strip().lower(), expression)


def find_zone(timezone: str) -> ZoneInfo:
    """The time zone of this IANA name. Raises `Invalid` if there is none."""
    try:
        return ZoneInfo(timezone)
    except (ValueError, OSError, LookupError) as exc:
        raise Invalid(f"there is no time zone {timezone!r}; give an IANA name such as Europe/Berlin") from exc


def next_every_ms(scheduled_ms: int, every_ms: int, now_ms: int) -> int:
    """The first multiple of the period after `scheduled_ms` that lies in the future: what was missed runs once."""
    return scheduled_ms + every_ms * (max(0, now_ms - scheduled_ms) // every_ms + 1)


def next_cron_ms(expression: str, after_ms: int, timezone: str = "UTC") -> int:
    """The first moment after `after_ms` that a cron expression (five fields, or an alias) names in a time zone.

    Where clocks go forward, a time that is skipped is the first one behind the gap; where they go back, a time that comes twice
    counts once, the first time, unless the expression names every hour. Raises `Invalid` if there is no such moment.
    """
    after = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(find_zone(timezone))
    try:
        return int(next(CronSim(expand_cron(expression), after)).timestamp() * 1000)
    except CronSimError as exc:
        raise Invalid(
            f"{expression!r} is no cron expression (minute hour day month weekday, or @daily and the like): {exc}"
        ) from exc
    except StopIteration:
        raise Invalid(f"the cron expression {expression!r} never comes true") from None
