"""What must hold of the present object for an operation to happen, as HTTP defines it (RFC 9110, section 13)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from stead.bindings.bucket.objects import BucketObject

ANY = "*"  # an ETag that every object has


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """`only_if=Conditions(etag_does_not_match="*")`: only if there is no such object yet.

    Where ETags are given, the time in the same direction is not looked at: `etag_matches` outweighs `uploaded_before`, and
    `etag_does_not_match` outweighs `uploaded_after`.
    """

    etag_matches: str | list[str] | None = None
    etag_does_not_match: str | list[str] | None = None
    uploaded_before: datetime | None = None
    uploaded_after: datetime | None = None


class Refusal(StrEnum):
    """Which kind of condition did not hold."""

    CHANGED = "changed"  # it is another one than the caller counts on
    UNCHANGED = "unchanged"  # it is the one that the caller has already


def refusal(conditions: Conditions | None, found: BucketObject | None) -> Refusal | None:
    """Why the operation must not happen, None if it may."""
    if conditions is None:
        return None
    if conditions.etag_matches is not None:
        if not _is_one_of(found, conditions.etag_matches):
            return Refusal.CHANGED
    elif conditions.uploaded_before is not None and not (found is not None and found.uploaded < conditions.uploaded_before):
        return Refusal.CHANGED
    if conditions.etag_does_not_match is not None:
        if _is_one_of(found, conditions.etag_does_not_match):
            return Refusal.UNCHANGED
    elif conditions.uploaded_after is not None and not (found is not None and found.uploaded > conditions.uploaded_after):
        return Refusal.UNCHANGED
    return None


def _is_one_of(found: BucketObject | None, etags: str | list[str]) -> bool:
    wanted = [etags] if isinstance(etags, str) else etags
    return found is not None and (ANY in wanted or found.etag in [etag.strip('"') for etag in wanted])
