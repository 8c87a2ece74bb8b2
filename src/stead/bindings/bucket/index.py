"""The index of a bucket: which objects there are, and which blobs hold their bodies.

    o:<key>                     the object, as a list shows it
    s:<key>                     its segments: the blobs that are its body, in order
    b:<blob>                    None, for each blob that an object or a part uses
    g:<due_ms>:<blob>           None, for each blob that is to be removed then
    u:<key>\\0<upload id>        an upload in parts that is under way
    p:<upload id>:<number>      one of its parts

**A body is visible only when its entry has committed.** Blobs are written before, outside turns. A blob that no entry uses any more
is listed as garbage in the commit that lets go of it, and removed GARBAGE_S later, when nobody reads it any more. A blob that was
written and never committed, because whoever wrote it died, is found by the sweep: it looks through the blobs of each day that is
over, once. An entry for a blob of such a day is refused, so that nothing the sweep has judged can come to be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import md5
from typing import ClassVar

import msgspec

from stead.api import Actor, AlarmInfo, durable, on_alarm, reads
from stead.bindings.bucket.blobs import Blobs, blobs_of, last_day_over
from stead.bindings.bucket.conditions import Conditions, refusal
from stead.bindings.bucket.digests import CYCLIC, combined, new_digest
from stead.bindings.bucket.events import Action, BucketEvent, Cause, EventObject, Watch
from stead.bindings.bucket.failures import BadDigest, InvalidPart, InvalidPartOrder, NoSuchUpload, PartTooSmall
from stead.bindings.bucket.listing import Listing, list_keys
from stead.bindings.bucket.objects import BucketObject, Part, Segment, Upload
from stead.codec import convert
from stead.errors import Invalid
from stead.ids import binding_name

GARBAGE_S = 600.0  # for who began to read a body before it was replaced, and opens its next segment
GARBAGE_BLOBS_MAX = 500  # removed at once; the next ones follow
GARBAGE_RETRY_S = 60.0  # after which a removal that has not been heard of is begun again
UPLOAD_DAYS_MAX = 7  # after which an upload that was not completed is aborted
UPLOADS_AT_ONCE = 10  # looked at in one turn: each may have 10,000 parts
PART_NUMBER_MAX = 10_000
PART_BYTES_MIN = 5 * 1024 * 1024  # of every part but the last
_COLLECT, _SWEEP = "collect", "sweep"
_NEVER = "00000000"  # before every day
_BEHIND_IDS = "~"  # comes after every id of an upload


class BucketIndex(Actor):
    part_bytes_min: ClassVar[int] = PART_BYTES_MIN
    watches: ClassVar[Sequence[Watch]] = ()  # who is told of what happens

    closed: str = durable(_NEVER)  # the last day whose blobs no entry may come to use
    swept: str = durable(_NEVER)  # the last day whose blobs have been looked through

    _is_sweeping = False  # an alarm is set

    # -- reading -------------------------------------------------------------------------------------------------------------------

    @reads
    async def head(self, key: str) -> BucketObject | None:
        return await self.storage.get(_object(key), type=BucketObject)

    @reads
    async def locate(self, key: str) -> tuple[BucketObject, list[Segment]] | None:
        """An object and where its body is."""
        found = await self.storage.get_many([_object(key), _segments(key)])
        if not found:
            return None
        return convert(found[_object(key)], BucketObject), convert(found[_segments(key)], list[Segment])

    @reads
    async def keys(self, prefix: str, start: str, delimiter: str, limit: int) -> Listing:
        return await list_keys(self.storage, _object(""), prefix, start, delimiter, limit)

    # -- objects -------------------------------------------------------------------------------------------------------------------

    async def commit(
        self, draft: BucketObject, segments: list[Segment], only_if: Conditions | None = None, cause: Cause = Cause()
    ) -> BucketObject | None:
        """Make an object of blobs that have been written. None, and the blobs are garbage, if a condition does not hold."""
        await self._use(segment.blob for segment in segments)
        if refusal(only_if, await self.head(draft.key)) is not None:
            await self._drop(segments)
            return None
        return await self._replace(draft, segments, cause)

    async def remove(self, keys: list[str]) -> None:
        for key in keys:
            gone = await self._forget(key)
            if gone is not None:
                await self._announce(gone, Cause(Action.DELETE))

    # -- uploads in parts ----------------------------------------------------------------------------------------------------------

    async def begin(self, upload: Upload) -> None:
        await self._keep_sweeping()
        await self.storage.put(_upload(upload), msgspec.structs.replace(upload, initiated=self.env.now()))

    async def add_part(self, upload: Upload, part: Part) -> Part:
        """Keep a part whose blob has been written, in place of one with its number. Raises `NoSuchUpload`."""
        await self._use(segment.blob for segment in _segments_of([part]))
        await self._upload(upload)
        row = _part(upload.upload_id, part.part_number)
        previous = await self.storage.get(row, type=Part)
        if previous is not None:
            await self._drop(_segments_of([previous]))
        part = msgspec.structs.replace(part, uploaded=self.env.now())
        await self.storage.put(row, part)
        return part

    async def complete(
        self, upload: Upload, wanted: list[Part], only_if: Conditions | None, expected: dict[str, str]
    ) -> BucketObject | None:
        """Put parts together to an object. None, and the upload goes on, if a condition fails.

        Of an upload that was completed before, and whose object is still there, it is the answer again. Raises `NoSuchUpload`,
        `InvalidPart`, `InvalidPartOrder`, `PartTooSmall` or `BadDigest`.
        """
        present = await self.head(upload.key)
        if present is not None and present.version == upload.upload_id:
            return present
        upload = await self._upload(upload)
        if refusal(only_if, present) is not None:
            return None
        stored = {part.part_number: part for part in await self._parts(upload)}
        parts = _chosen(stored, wanted, self.part_bytes_min)
        checksums = _checksums_of(upload, parts)
        for name, value in expected.items():
            if value != checksums.get(name, value):
                raise BadDigest(f"the parts have the {name} {checksums[name]} together, not {value!r:.140}")
        chosen = {part.part_number for part in parts}
        await self._drop(_segments_of(part for number, part in stored.items() if number not in chosen))
        await self._end(upload, stored)
        digest = md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        draft = BucketObject(
            key=upload.key,
            version=upload.upload_id,
            size=sum(part.size for part in parts),
            etag=f"{digest.hexdigest()}-{len(parts)}",
            checksums=checksums,
            http_metadata=upload.http_metadata,
            custom_metadata=upload.custom_metadata,
        )
        return await self._replace(draft, _segments_of(parts), Cause(Action.COMPLETE_MULTIPART))

    async def abort(self, upload: Upload) -> None:
        await self._abort(await self._upload(upload))

    @reads
    async def parts(self, upload: Upload, after: int, limit: int) -> list[Part]:
        """The parts with numbers above `after`. Raises `NoSuchUpload`."""
        await self._upload(upload)
        rows = await self.storage.list(_parts(upload.upload_id), start_after=_part(upload.upload_id, after), limit=limit)
        return [convert(part, Part) for part in rows.values()]

    @reads
    async def uploads(self, prefix: str, after_key: str, after_id: str, limit: int) -> list[Upload]:
        """Uploads under way in the order of their keys and ids, those behind `after_key` (and `after_id` of that key)."""
        after = f"u:{after_key}\0{after_id or _BEHIND_IDS}" if after_key else None
        rows = await self.storage.list(f"u:{prefix}", start_after=after, limit=limit)
        return [convert(row, Upload) for row in rows.values()]

    async def _upload(self, upload: Upload) -> Upload:
        found = await self.storage.get(_upload(upload), type=Upload)
        if found is None:
            raise NoSuchUpload(
                f"there is no upload {upload.upload_id!r} of {upload.key!r}; it was completed, aborted or never begun"
            )
        return found

    async def _parts(self, upload: Upload) -> list[Part]:
        return [convert(part, Part) for part in (await self.storage.list(_parts(upload.upload_id))).values()]

    async def _abort(self, upload: Upload) -> None:
        parts = await self._parts(upload)
        await self._drop(_segments_of(parts))
        await self._end(upload, (part.part_number for part in parts))

    async def _end(self, upload: Upload, numbers: Iterable[int]) -> None:
        await self.storage.delete(_upload(upload))
        await self.storage.delete_many([_part(upload.upload_id, number) for number in numbers])

    # -- entries -------------------------------------------------------------------------------------------------------------------

    async def _replace(self, draft: BucketObject, segments: list[Segment], cause: Cause) -> BucketObject:
        await self._forget(draft.key)
        made = msgspec.structs.replace(draft, uploaded=self.env.now())
        await self.storage.put_many({_object(draft.key): made, _segments(draft.key): segments})
        await self._announce(made, cause)
        return made

    async def _forget(self, key: str) -> BucketObject | None:
        found = await self.locate(key)
        if found is None:
            return None
        await self.storage.delete_many([_object(key), _segments(key)])
        await self._drop(found[1])
        return found[0]

    async def _announce(self, about: BucketObject, cause: Cause) -> None:
        """Tell the observers that want to hear of it: a message to the queue of each, in the commit of what happened."""
        about_object = EventObject(about.key, about.size, about.etag)
        event = BucketEvent(cause.action, self.id.unit, about_object, self.env.now(), cause.copy_source)
        for watch in self.watches:
            if watch.wants(event):
                await getattr(self.env, binding_name(watch.queue)).send(event, content_type="python")

    async def _use(self, blobs: Iterable[str]) -> None:
        """Note that an entry of this commit uses blobs. Raises `Invalid` for one that came too late: it may be gone."""
        await self._keep_sweeping()
        names = list(blobs)
        if any(name.partition("/")[0] <= self.closed for name in names):
            raise Invalid("this body was written more than a day ago and never committed: it took too long; write it again")
        await self.storage.put_many({_blob(name): None for name in names})

    async def _drop(self, segments: Sequence[Segment]) -> None:
        """Let go of blobs, which are garbage then."""
        if segments:
            due_ms = self._now_ms() + round(GARBAGE_S * 1000)
            await self.storage.delete_many([_blob(segment.blob) for segment in segments])
            await self.storage.put_many({_garbage(due_ms, segment.blob): None for segment in segments})
            await self._collect_by(due_ms)

    # -- collection ----------------------------------------------------------------------------------------------------------------

    async def _collect_by(self, due_ms: int) -> None:
        alarm = await self.alarms.get(_COLLECT)
        if alarm is None or alarm.dead or alarm.due_ms > due_ms:
            await self.alarms.set(_COLLECT, due_ms)

    @on_alarm(_COLLECT)
    async def _collect(self, alarm: AlarmInfo) -> None:
        """Remove the garbage that is due; the entries go when the blobs have gone."""
        due = [(at_ms, blob) for at_ms, blob in await self._garbage() if at_ms <= self._now_ms()]
        if due:
            await self.alarms.set(_COLLECT, self._now_ms() + round(GARBAGE_RETRY_S * 1000))
            self.ctx.spawn(self._remove(due))
        else:
            await self._collect_next()

    async def _remove(self, due: list[tuple[int, str]]) -> None:
        await self._blobs.delete([self._full(blob) for _, blob in due])
        async with self.ctx.turn():
            await self.storage.delete_many([_garbage(at_ms, blob) for at_ms, blob in due])
            await self.alarms.cancel(_COLLECT)
            await self._collect_next()

    async def _collect_next(self) -> None:
        left = await self._garbage()
        if left:
            await self._collect_by(left[0][0])

    async def _garbage(self) -> list[tuple[int, str]]:
        """When each piece of garbage is due and which blob it is, the first ones."""
        rows = await self.storage.list("g:", limit=GARBAGE_BLOBS_MAX)
        return [(int(at_ms), blob) for at_ms, blob in (row[len("g:") :].split(":", 1) for row in rows)]

    async def _keep_sweeping(self) -> None:
        if not self._is_sweeping:
            if await self.alarms.get(_SWEEP) is None:
                await self.alarms.set(_SWEEP, _tomorrow(self.env.now()))
            self._is_sweeping = True

    @on_alarm(_SWEEP)
    async def _sweep_days(self, alarm: AlarmInfo) -> None:
        """Once a day, and not at all where nothing was written for two days."""
        self._is_sweeping = True
        await self.alarms.set(_SWEEP, _tomorrow(self.env.now()))
        self.ctx.spawn(self._sweep(last_day_over(self.env.now())))

    async def _sweep(self, until: str) -> None:
        async with self.ctx.turn():
            self.closed = max(self.closed, until)
        await self._abort_old()
        days = sorted(await self._blobs.folders(self.id.unit))
        for day in days:
            if self.swept < day <= until:
                await self._sweep_day(day)
        if all(day <= until for day in days):
            await self._stop_sweeping()

    async def _abort_old(self) -> None:
        """Abort the uploads that were begun too long ago."""
        begun_by = self.env.now() - timedelta(days=UPLOAD_DAYS_MAX)
        last: str | None = None
        while True:
            async with self.ctx.turn():
                rows = await self.storage.list("u:", start_after=last, limit=UPLOADS_AT_ONCE)
                if not rows:
                    return
                last = next(reversed(rows))
                for upload in [convert(row, Upload) for row in rows.values()]:
                    if upload.initiated < begun_by:
                        await self._abort(upload)

    async def _sweep_day(self, day: str) -> None:
        """Make garbage of the blobs that nothing uses."""
        folder = self._full(day)
        await self._blobs.tidy(folder)
        async for names in self._blobs.names(folder):
            async with self.ctx.turn():
                blobs = {_blob(f"{day}/{name}"): Segment(f"{day}/{name}", 0) for name in names}
                used = await self.storage.get_many(list(blobs))
                await self._drop([segment for row, segment in blobs.items() if row not in used])
        async with self.ctx.turn():
            self.swept = day

    async def _stop_sweeping(self) -> None:
        async with self.ctx.turn():
            if not await self.storage.list("u:", limit=1):
                await self.alarms.cancel(_SWEEP)
                self._is_sweeping = False

    @property
    def _blobs(self) -> Blobs:
        return blobs_of(self.env)

    def _full(self, blob: str) -> str:
        return f"{self.id.unit}/{blob}"

    def _now_ms(self) -> int:
        return round(self.env.now().timestamp() * 1000)


def index_class(watches: Sequence[Watch]) -> type[BucketIndex]:
    """The class of a bucket's index that tells observers."""
    return type("BucketIndex", (BucketIndex,), {"watches": watches, "__module__": __name__})


def _chosen(stored: dict[int, Part], wanted: list[Part], bytes_min: int) -> list[Part]:
    """The parts that make the object. Raises for the first that cannot be right."""
    numbers = [part.part_number for part in wanted]
    if not wanted:
        raise InvalidPart("an object is put together of one part or more")
    if any(number >= following for number, following in zip(numbers, numbers[1:], strict=False)):
        raise InvalidPartOrder("the parts must come in the order of their numbers, each once")
    parts = []
    for part in wanted:
        found = stored.get(part.part_number)
        if found is None or found.etag != part.etag.strip('"'):
            raise InvalidPart(f"part {part.part_number} was not uploaded with the ETag {part.etag!r:.80}")
        if any(found.checksums.get(name) != value for name, value in part.checksums.items()):
            raise InvalidPart(f"part {part.part_number} was uploaded with another checksum")
        parts.append(found)
    small = next((part for part in parts[:-1] if part.size < bytes_min), None)
    if small is not None:
        raise PartTooSmall(f"part {small.part_number} has {small.size:,} bytes; all but the last need {bytes_min:,}")
    return parts


def _checksums_of(upload: Upload, parts: list[Part]) -> dict[str, str]:
    """The checksum of what parts make together, if each came with one."""
    name = upload.checksum_algorithm
    if name is None or not all(name in part.checksums for part in parts):
        return {}
    if upload.is_checksum_whole and name in CYCLIC:
        return {name: combined(name, [(part.checksums[name], part.size) for part in parts])}
    digest = new_digest(name)
    for part in parts:
        digest.update(bytes.fromhex(part.checksums[name]))
    return {name: f"{digest.digest().hex()}-{len(parts)}"}


def _segments_of(parts: Iterable[Part]) -> list[Segment]:
    return [part.segment for part in parts if part.segment is not None]


def _tomorrow(now: datetime) -> datetime:
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def _object(key: str) -> str:
    return f"o:{key}"


def _segments(key: str) -> str:
    return f"s:{key}"


def _blob(name: str) -> str:
    return f"b:{name}"


def _garbage(due_ms: int, blob: str) -> str:
    return f"g:{due_ms:015}:{blob}"


def _upload(upload: Upload) -> str:
    return f"u:{upload.key}\0{upload.upload_id}"


def _parts(upload_id: str) -> str:
    return f"p:{upload_id}:"


def _part(upload_id: str, number: int) -> str:
    return f"{_parts(upload_id)}{number:05}"
