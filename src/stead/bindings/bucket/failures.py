"""What can be wrong with a call to a bucket, one class for each thing a caller may want to tell apart."""

from __future__ import annotations

from stead.errors import Invalid


class BadDigest(Invalid):
    """The body is not what its checksum says; nothing was stored."""


class RangeNotSatisfiable(Invalid):
    """The object has no byte in the range that was asked for."""

    status = 416


class NoSuchUpload(Invalid):
    """There is no such upload: it was completed, aborted, or never begun."""

    status = 404


class InvalidPart(Invalid):
    """A part that is to be put together was not uploaded, or not with this ETag."""


class InvalidPartOrder(Invalid):
    """The parts that are to be put together are not in the order of their numbers."""


class PartTooSmall(Invalid):
    """Every part but the last must have 5 MiB or more."""
