"""The statements of the engine, for one schema and one server.

**A commit is one statement**, composed of the parts that its batch needs. `applied` decides: for each actor it finds the row by its
key, and updates it where epoch, owner and `seq` are as they must be *once the row is locked*. The other parts write what belongs to
the actors that `applied` names. Rows are found through a subquery that cannot become a join and updated through ON CONFLICT, in the
order of the arrays, which is sorted: two statements never wait for each other's rows in a circle.

INSERT is how an update finds its row; a row that is not there is not made by it, because the subquery finds none. Only where the
row vanishes in between (released before anything was written) it is made anew, without an owner: as if the release had come later.

**A claim is one statement**, entries included. They are read from the statement's snapshot, while the claim waits for a commit
under way; so it also says which `seq` the snapshot shows, and the caller reads again where that is not the claim's.

A node is over when its row is gone, not when its lease has run out: whoever wants an actor of it deletes the row first, and that
waits for a renewal under way, or makes it fail.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from stead.storage.postgres.fence import COUNTER_BITS, Fence


class Parts(NamedTuple):
    """What a batch does beside advancing its actors."""

    erases: bool
    drops: bool
    puts: bool
    pieces: bool
    alarm_drops: bool
    alarm_puts: bool


class Statements:
    """Texts with `$n` for values. What a method returns is the same object each time."""

    def __init__(self, schema: str, fence: Fence) -> None:
        self._s = schema
        self._timeline = fence.timeline
        self._system = fence.system
        self.commit = cache(self._commit)  # of at most 64 combinations of parts
        s = schema
        epoch = f"({fence.timeline} << {COUNTER_BITS})"
        self.claim = f"""
            WITH seen AS (
                SELECT number, owner, seq, size_bytes FROM {s}.actors WHERE id = $1
            ), ended AS (
                DELETE FROM {s}.nodes WHERE incarnation IN (SELECT owner FROM seen) AND expires_at <= clock_timestamp()
                RETURNING incarnation
            ), dead AS (
                SELECT owner FROM seen
                WHERE owner IN (SELECT incarnation FROM ended)
                   OR NOT EXISTS (SELECT 1 FROM {s}.nodes n WHERE n.incarnation = seen.owner)
            ), claimed AS (
                INSERT INTO {s}.actors AS a
                    (id, number, owner, epoch, seq, folded, last_epoch, size_bytes, created_ms, active_ms)
                SELECT $1, c.n, $2, {epoch} + c.n, 0, 0, 0, 0, 0, 0 FROM (SELECT nextval('{s}.counter') AS n) c
                WHERE {fence.system} = $3 AND EXISTS (SELECT 1 FROM {s}.nodes n WHERE n.incarnation = $2)
                ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, epoch = {epoch} + nextval('{s}.counter')
                WHERE a.owner IS NULL OR a.owner = excluded.owner OR a.owner IN (SELECT owner FROM dead)
                RETURNING epoch, seq, size_bytes
            )
            SELECT c.epoch, c.seq, c.size_bytes, s.seq AS seen_seq, s.owner AS seen_owner,
                   {fence.system} = $3 AS is_same,
                   EXISTS (SELECT 1 FROM {s}.nodes n WHERE n.incarnation = $2) AS is_member,
                   EXISTS (SELECT 1 FROM {s}.nodes n WHERE n.incarnation = s.owner AND expires_at > clock_timestamp()) AS is_held,
                   e.key, e.value, e.pieces
            FROM (VALUES (1)) one (one) LEFT JOIN claimed c ON true LEFT JOIN seen s ON true
            LEFT JOIN {s}.entries e ON e.actor = s.number AND s.size_bytes <= $4 AND c.epoch IS NOT NULL"""
        self.release = f"""
            WITH unused AS (DELETE FROM {s}.actors WHERE id = $1 AND owner = $2 AND epoch = $3 AND seq = 0)
            UPDATE {s}.actors SET owner = NULL WHERE id = $1 AND owner = $2 AND epoch = $3 AND seq > 0"""
        self.outcome = f"SELECT id, seq, last_epoch FROM {s}.actors WHERE id = ANY($1::text[])"
        self.read = f"""
            SELECT e.key, CASE WHEN p.number > 1 THEN NULL ELSE e.value END AS value, p.value AS piece
            FROM {s}.entries e LEFT JOIN {s}.pieces p ON e.pieces > 0 AND p.actor = e.actor AND p.key = e.key
            WHERE e.actor = (SELECT number FROM {s}.actors WHERE id = $1) AND e.key = ANY($2::bytea[])
            ORDER BY e.key, p.number"""
        self.due = f"""
            SELECT l.due_ms, a.id, l.name FROM {s}.alarms l JOIN {s}.actors a ON a.number = l.actor
            WHERE l.due_ms <= $2 AND {self._mine()} ORDER BY l.due_ms, a.id, l.name LIMIT $3"""
        self.next_due = f"""
            SELECT l.due_ms FROM {s}.alarms l JOIN {s}.actors a ON a.number = l.actor
            WHERE {self._mine()} ORDER BY l.due_ms LIMIT 1"""
        self.listed = f"""
            SELECT id, last_epoch, seq, size_bytes, created_ms, active_ms FROM {s}.actors
            WHERE id >= $1 AND id > $2 AND ($3 = '' OR id < $3) AND size_bytes > 0
              AND ($4 = '' OR strpos(id, '/') > 0 AND starts_with(substr(id, strpos(id, '/') + 1), $4))
            ORDER BY id LIMIT $5"""
        left = "extract(epoch FROM expires_at - clock_timestamp())::double precision AS left_s"
        member = f"incarnation, info, is_draining, is_cut_off, {left}"
        is_own = "n.incarnation BETWEEN $6 AND $2"  # the last life of this engine, or one that it was not told of
        self.join = f"""
            INSERT INTO {s}.nodes AS n (name, incarnation, info, is_draining, lease_s, expires_at)
            VALUES ($1, $2, $3, $7, $4, clock_timestamp() + make_interval(secs => $4))
            ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, info = excluded.info,
                is_draining = CASE WHEN {is_own} AND NOT $5 THEN n.is_draining ELSE excluded.is_draining END,
                is_cut_off = false, lease_s = excluded.lease_s, expires_at = excluded.expires_at
            WHERE $5 OR {is_own} OR n.expires_at <= clock_timestamp()
            RETURNING {fence.timeline}"""
        self.renew = f"""
            WITH renewed AS (
                UPDATE {s}.nodes
                SET expires_at = clock_timestamp() + make_interval(secs => lease_s), is_cut_off = coalesce($3, is_cut_off)
                WHERE incarnation = $1 AND expires_at > clock_timestamp() AND {fence.timeline} = $2 RETURNING {member}
            )
            SELECT * FROM renewed
            UNION ALL SELECT {member} FROM {s}.nodes WHERE incarnation <> $1 AND expires_at > clock_timestamp()"""
        self.bury = f"DELETE FROM {s}.nodes WHERE expires_at < clock_timestamp() - interval '1 minute'"
        self.leave = f"DELETE FROM {s}.nodes WHERE incarnation >= $1 AND incarnation < $2"
        self.set_draining = (
            f"UPDATE {s}.nodes SET is_draining = $2 WHERE name = $1 AND expires_at > clock_timestamp() RETURNING incarnation"
        )
        self.owner = f"""
            SELECT a.owner FROM {s}.actors a JOIN {s}.nodes n ON n.incarnation = a.owner
            WHERE a.id = $1 AND n.expires_at > clock_timestamp()"""
        self.owned = f"""
            SELECT n.incarnation, (SELECT count(*) FROM {s}.actors a WHERE a.owner = n.incarnation) AS actors
            FROM {s}.nodes n WHERE n.expires_at > clock_timestamp() AND ($1::bigint IS NULL OR n.incarnation = $1)"""

    def scan(self, *, has_end: bool, reverse: bool) -> str:
        order = "DESC" if reverse else "ASC"
        return f"""
            SELECT e.key, CASE WHEN p.number > 1 THEN NULL ELSE e.value END AS value, p.value AS piece
            FROM (
                SELECT actor, key, value, pieces FROM {self._s}.entries
                WHERE actor = (SELECT number FROM {self._s}.actors WHERE id = $1)
                  AND key >= $2 {"AND key < $4" if has_end else ""}
                ORDER BY key {order} LIMIT $3
            ) e LEFT JOIN {self._s}.pieces p ON e.pieces > 0 AND p.actor = e.actor AND p.key = e.key
            ORDER BY e.key {order}, p.number"""

    def _mine(self) -> str:
        """Whether the alarm `l` of the actor `a` is for the node $1 to fire: the owner's, or an orphan of its share."""
        live = f"(SELECT incarnation FROM {self._s}.nodes WHERE expires_at > clock_timestamp())"
        sharing = f"(SELECT incarnation FROM {self._s}.nodes WHERE expires_at > clock_timestamp() AND NOT is_cut_off)"
        rank = f"(SELECT count(*) FROM {sharing} r WHERE r.incarnation < $1)"
        count = f"(SELECT nullif(count(*), 0) FROM {sharing} r)"
        is_orphan = f"(a.owner IS NULL OR a.owner NOT IN {live})"
        return f"(a.owner = $1 OR {is_orphan} AND l.slice % {count} = {rank} AND $1 IN {sharing}) AND $1 IN {live}"

    def _commit(self, parts: Parts) -> str:
        s, at = self._s, 10
        names = {}

        def arrays(*types: str) -> str:
            nonlocal at
            at += len(types)
            return ", ".join(f"${at - len(types) + position}::{kind}[]" for position, kind in enumerate(types))

        ctes = [
            f"""applied AS (
                INSERT INTO {s}.actors AS a
                    (id, number, owner, epoch, seq, folded, last_epoch, size_bytes, created_ms, active_ms)
                SELECT b.id, o.number, NULL, b.epoch, b.seq, b.folded, b.epoch, b.size_bytes, b.created_ms, b.active_ms
                FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[])
                    AS b (id, epoch, seq, folded, size_bytes, created_ms, active_ms),
                LATERAL (SELECT number, epoch FROM {s}.actors WHERE id = b.id LIMIT 1) o
                WHERE o.epoch = b.epoch AND b.epoch >> {COUNTER_BITS} = {self._timeline} AND {self._system} = $2
                ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, folded = excluded.folded, last_epoch = excluded.epoch,
                    size_bytes = excluded.size_bytes, active_ms = excluded.active_ms,
                    created_ms = CASE a.seq WHEN 0 THEN excluded.created_ms ELSE a.created_ms END
                WHERE a.owner = $1 AND a.epoch = excluded.epoch AND a.seq = excluded.seq - excluded.folded
                RETURNING id, number
            )"""
        ]
        if parts.puts:
            values = arrays("text", "bytea", "smallint", "bytea")
            names["put"] = f"""put AS (
                INSERT INTO {s}.entries AS e (actor, key, pieces, spare, value)
                SELECT a.number, w.key, w.pieces, 0, w.value
                FROM unnest({values}) AS w (id, key, pieces, value) JOIN applied a ON a.id = w.id
                ON CONFLICT (actor, key) DO UPDATE SET value = excluded.value, pieces = excluded.pieces, spare = e.pieces
                RETURNING actor, key, pieces, spare
            ), cut AS (
                DELETE FROM {s}.pieces p USING put
                WHERE put.spare > put.pieces AND p.actor = put.actor AND p.key = put.key AND p.number > put.pieces
            )"""
        if parts.pieces:
            values = arrays("text", "bytea", "smallint", "bytea")
            names["pieces"] = f"""put_pieces AS (
                INSERT INTO {s}.pieces (actor, key, number, value)
                SELECT a.number, w.key, w.number, w.value
                FROM unnest({values}) AS w (id, key, number, value) JOIN applied a ON a.id = w.id
                ON CONFLICT (actor, key, number) DO UPDATE SET value = excluded.value
            )"""
        if parts.drops:
            values = arrays("text", "bytea")
            names["drops"] = f"""dropped AS (
                DELETE FROM {s}.entries e USING unnest({values}) AS w (id, key), applied a
                WHERE a.id = w.id AND e.actor = a.number AND e.key = w.key RETURNING e.actor, e.key, e.pieces
            ), dropped_pieces AS (
                DELETE FROM {s}.pieces p USING dropped d WHERE d.pieces > 0 AND p.actor = d.actor AND p.key = d.key
            )"""
        if parts.alarm_puts:
            values = arrays("text", "bytea", "smallint", "bigint")
            names["alarms"] = f"""put_alarms AS (
                INSERT INTO {s}.alarms (actor, name, slice, due_ms)
                SELECT a.number, w.name, w.slice, w.due_ms
                FROM unnest({values}) AS w (id, name, slice, due_ms) JOIN applied a ON a.id = w.id
                ON CONFLICT (actor, name) DO UPDATE SET due_ms = excluded.due_ms
                RETURNING actor, name
            )"""
        if parts.alarm_drops:
            values = arrays("text", "bytea")
            names["drop_alarms"] = f"""dropped_alarms AS (
                DELETE FROM {s}.alarms l USING unnest({values}) AS w (id, name), applied a
                WHERE a.id = w.id AND l.actor = a.number AND l.name = w.name
            )"""
        if parts.erases:
            erased = f"(SELECT number FROM applied WHERE id = ANY({arrays('text')}))"
            kept = "AND NOT EXISTS (SELECT 1 FROM put WHERE put.actor = e.actor AND put.key = e.key)" if parts.puts else ""
            kept_pieces = kept.replace("e.", "p.")
            kept_alarms = (
                "AND NOT EXISTS (SELECT 1 FROM put_alarms w WHERE w.actor = l.actor AND w.name = l.name)"
                if parts.alarm_puts
                else ""
            )
            names["erased"] = f"""erased AS (
                DELETE FROM {s}.entries e WHERE e.actor IN {erased} {kept}
            ), erased_pieces AS (
                DELETE FROM {s}.pieces p WHERE p.actor IN {erased} {kept_pieces}
            ), erased_alarms AS (
                DELETE FROM {s}.alarms l WHERE l.actor IN {erased} {kept_alarms}
            )"""
        return f"WITH {', '.join([*ctes, *names.values()])} SELECT id FROM applied"
