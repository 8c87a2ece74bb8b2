"""What the condition of a PostgreSQL server means for nodes that share it."""

from __future__ import annotations

from collections import Counter

from stead.admin.doctor.finding import Finding, failed, note, ok, warning
from stead.clock import Clock
from stead.errors import EngineFailed
from stead.ids import Chance
from stead.storage.postgres.condition import Condition, Standby, examine
from stead.storage.postgres.engine import CONNECTIONS
from stead.storage.postgres.schema import FILLING, STEPS

VERSION_MIN = 14
ROUND_TRIP_S_SLOW = 0.005  # a claim is one, and so is a commit beside the flush
COMMIT_S_SLOW = 0.05
AHEAD_S_MAX = 1.0
LAG_BYTES_MAX = 64 * 1024 * 1024
LAG_S_MAX = 10.0
_TOLD_NOTHING = "the server does not tell; grant the user pg_monitor to have it looked at"
_LOSSY = {
    "fsync": "a power cut destroys the database",
    "full_page_writes": "a power cut may destroy the database",
    "synchronous_commit": "the last acknowledged commits are lost when the server crashes",
}


async def postgres_findings(dsn: str, clock: Clock, chance: Chance) -> list[Finding]:
    """The server, its settings, what follows it, what is before it, and who uses it."""
    try:
        condition = await examine(dsn, clock, chance)
    except EngineFailed as exc:
        return [failed("engine", str(exc), "see to that, or correct --engine")]
    return judged(condition)


def judged(condition: Condition) -> list[Finding]:
    """What a condition means."""
    return [
        _server(condition),
        *_role(condition),
        _tables(condition),
        *_settings(condition),
        *_speed(condition),
        *_replication(condition),
        *_pooler(condition),
        _connections(condition),
        _clocks(condition),
        *_nodes(condition),
    ]


def _server(condition: Condition) -> Finding:
    found = f"PostgreSQL {condition.version_text} at {condition.where}"
    if condition.version is None:
        return note("engine", f"{condition.where} answers and does not say its version: it is a relative of PostgreSQL")
    if condition.version < VERSION_MIN * 10_000:
        return failed("engine", found, f"Stead needs PostgreSQL {VERSION_MIN} or later: upgrade it")
    return ok("engine", found)


def _role(condition: Condition) -> list[Finding]:
    findings = []
    if condition.is_standby:
        findings.append(
            failed("role", "it is a standby, and takes no writes", "give the address of the primary, or one that follows it")
        )
    elif condition.settings.get("transaction_read_only") == "on":
        remedy = "set default_transaction_read_only = off for the database and the user"
        findings.append(failed("role", "it takes no writes", remedy))
    encoding = condition.settings.get("server_encoding", "UTF8")
    if encoding.upper() != "UTF8":
        findings.append(failed("encoding", f"the database has the encoding {encoding}", "create one with ENCODING 'UTF8'"))
    return findings


def _tables(condition: Condition) -> Finding:
    version, subject = condition.schema_version, "tables"
    if version is None:
        return note(subject, "there are none yet, or the user may not see them; the first node makes them")
    if version == FILLING:
        return failed(subject, "a `stead migrate-engine` fills them, or was interrupted", "wait for it, or run it again to its end")
    if version > len(STEPS):
        remedy = "install the release that wrote them, or a later one"
        return failed(subject, f"schema version {version}, and this release knows up to {len(STEPS)}", remedy)
    if version < len(STEPS):
        return note(subject, f"schema version {version} of {len(STEPS)}: the next node that starts migrates them")
    return ok(subject, f"schema version {version}")


def _settings(condition: Condition) -> list[Finding]:
    off = [name for name in _LOSSY if condition.settings.get(name) == "off"]
    findings = [failed("durability", f"{name} is off: {_LOSSY[name]}", f"set {name} = on") for name in off]
    present = [f"{name} {condition.settings[name]}" for name in _LOSSY if name in condition.settings]
    if not present:
        return [note("durability", _TOLD_NOTHING)]
    return findings or [ok("durability", ", ".join(present))]


def _speed(condition: Condition) -> list[Finding]:
    round_trip = f"{condition.round_trip_s * 1000:.2f} ms"
    findings = [ok("round trip", round_trip)]
    if condition.round_trip_s > ROUND_TRIP_S_SLOW:
        findings = [warning("round trip", round_trip, "every claim and commit waits as long: run nodes where the database is")]
    if condition.commit_s is not None:
        commit = f"{condition.commit_s * 1000:.2f} ms"
        slow = warning(
            "durable commit", commit, "every reply waits as long: look at the server's disk, and at its synchronous standbys"
        )
        findings.append(slow if condition.commit_s > COMMIT_S_SLOW else ok("durable commit", commit))
    return findings


def _replication(condition: Condition) -> list[Finding]:
    subject = "replication"
    if condition.is_standby:
        return []
    if condition.standbys is None or any(standby.state is None for standby in condition.standbys):
        return [note(subject, _TOLD_NOTHING)]
    wanted = condition.settings.get("synchronous_standby_names", "")
    in_step = [standby for standby in condition.standbys if standby.sync in {"sync", "quorum"}]
    findings = [_standby(standby) for standby in condition.standbys]
    if wanted and not in_step:
        remedy = "start a standby that the setting names: until then no commit ends"
        findings.append(failed(subject, f"synchronous_standby_names is {wanted!r} and no such standby follows", remedy))
    elif in_step and condition.settings.get("synchronous_commit") == "local":
        remedy = "set synchronous_commit = on: commits do not wait for the standby"
        findings.append(warning(subject, "a synchronous standby follows, and synchronous_commit does not wait for it", remedy))
    elif condition.standbys and not in_step:
        remedy = "a failover to one may lose the last acknowledged commits: set synchronous_standby_names if that must not be"
        findings.append(warning(subject, "every standby is asynchronous", remedy))
    elif not condition.standbys:
        findings.append(note(subject, "no standby follows: what is lost with the server's disk is in its backups only"))
    return findings


def _standby(standby: Standby) -> Finding:
    lag = f"{standby.lag_bytes or 0:,} bytes and {standby.lag_s or 0:.1f} s behind"
    found = f"standby {standby.name}: {standby.sync}, {standby.state}, {lag}"
    if standby.state != "streaming":
        return warning("replication", found, "it does not follow yet: look at its log if that lasts")
    if (standby.lag_bytes or 0) > LAG_BYTES_MAX or (standby.lag_s or 0) > LAG_S_MAX:
        return warning("replication", found, "it lags: look at its disk and the network")
    return ok("replication", found)


def _pooler(condition: Condition) -> list[Finding]:
    subject, pooler = "pooler", condition.pooler
    if pooler is None:
        return [ok(subject, "none: connections go to the server itself")]
    if not pooler.has_transactions:
        return [failed(subject, "there is one that refuses transactions", "set pool_mode = transaction (or session)")]
    if pooler.knows_prepared is False:
        remedy = "PgBouncer 1.21 or later with max_prepared_statements = 200: until then every statement is planned each time"
        return [warning(subject, "there is one that forgets prepared statements", remedy)]
    if pooler.knows_prepared is None:
        found = "there is one, with a single connection to the server: whether it knows prepared statements could not be tried"
        return [warning(subject, found, f"let it have at least {CONNECTIONS} for each node (default_pool_size)")]
    return [ok(subject, "there is one, and it knows transactions and prepared statements")]


def _connections(condition: Condition) -> Finding:
    subject, most, used = "connections", condition.connections_max, condition.connections_used
    if most is None or used is None:
        return note(subject, _TOLD_NOTHING)
    nodes = max(1, len(condition.members))
    wanted = CONNECTIONS * (nodes + 1)
    found = f"{used} of {most} are used; {nodes} nodes have up to {CONNECTIONS} each"
    if condition.pooler is None and most < wanted:
        return warning(
            subject,
            found,
            f"raise max_connections: {nodes} nodes and one that starts anew want {wanted}, or put PgBouncer before it",
        )
    if most - used < CONNECTIONS:
        return warning(subject, found, "raise max_connections, or put PgBouncer before it: another node would find none")
    return ok(subject, found)


def _clocks(condition: Condition) -> Finding:
    apart_s = abs(condition.ahead_s)
    if apart_s <= AHEAD_S_MAX:
        return ok("clock", "this machine's and the server's are the same")
    found = f"this machine's is {apart_s:,.1f} s {'ahead of' if condition.ahead_s > 0 else 'behind'} the server's"
    return warning(
        "clock", found, "run NTP on both: alarms ring by the clock of the node that has the actor; nothing else depends on it"
    )


def _nodes(condition: Condition) -> list[Finding]:
    members = condition.members
    if not members:
        return [note("nodes", "none is alive")]
    said = [
        f"{member.info.name} ({'draining, ' if member.is_draining else ''}{member.lease_left_s:.1f} s left)" for member in members
    ]
    findings = [ok("nodes", f"{len(members)} alive: {', '.join(said)}")]
    versions = Counter(member.info.application for member in members)
    if len(versions) > 1:
        usual = max(sorted(versions), key=versions.__getitem__)
        others = ", ".join(member.info.name for member in members if member.info.application != usual)
        remedy = "expected during a rollout; after it, start these nodes with the same application"
        findings.append(warning("nodes", f"another version of the application runs on {others}", remedy))
    return findings
