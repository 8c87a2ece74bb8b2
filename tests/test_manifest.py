"""The manifest: what parses, and what each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stead import ids
from stead.errors import ManifestError
from stead.manifest import (
    Action,
    Actor,
    Application,
    Bucket,
    EnvVariable,
    KvCache,
    ManifestErrors,
    Observer,
    Placement,
    Position,
    Queue,
    Rule,
    Service,
    SqlDatabase,
    Task,
    Visibility,
    checks,
    find_manifest,
    load_manifest,
    parse_manifest,
)
from stead.manifest.findings import ERRORS_MAX
from stead.manifest.grammar import DEPTH_MAX, FILE_BYTES_MAX

SHOP = """application "shop" {
  service "api" { domain { cname = "shop-api" } }
  actor "shopping-cart" {}
}
"""

COLLABORATIVE = """// every kind of block there is
application "collaborative-platform" {
  module = "platform.units"
  env "JWT_SECRET" { secret = true }   # from the environment
  env "LOG_LEVEL" { default = "in\\"fo\\"\\n\\t\\\\" secret = false }

  service "api" {
    visibility = "public"
    domain { fqdn = "API.example.com" }
    env "LOG_LEVEL" { default = "debug" }
  }
  service "auth" { visibility = "protected" handler = "platform.web:app" }
  service "notifications" {}
  service "docs" { domain = "docs.example.com" }

  actor "user-session" { visibility="private" }
  actor "document_store-2" { } actor "chat-room" { visibility = "public" }

  observer "indexer" {
    source {
      bucket = "uploads"  /* declared
                             below */
      rule { actions = ["PutObject", "CopyObject",] prefix = "in/" suffix = ".pdf" }
    }
    rule { actions = ["DeleteObject" "LifecycleDeletion"] }
  }
  observer "everything" { source { bucket = "uploads" } }
  observer "mailer" { source { queue = "mails" } handler = "platform.mail:Mailer" }
  queue "mails" {
    max_batch_size = 10 max_batch_timeout_s = 2.5 max_retries = 3 retry_delay_s = 30
    dead_letter_queue = "mails-dead" retention_s = 86400
  }
  queue "mails-dead" {}
  bucket "uploads" { visibility = "public" }
  task "nightly" { type = "cron" cron = "0 2 * * 1-5" timezone = "Europe/Berlin" }
  task "cleanup" { cron = "@daily" }
  kv_cache "sessions" {}
  sql_database "reports" {}
}
"""


def errors_of(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(ManifestErrors) as caught:
        parse_manifest(text, "stead.manifest")
    assert all(error.file == "stead.manifest" for error in caught.value.errors)
    return [(error.line, error.column, error.problem, error.hint) for error in caught.value.errors]


def test_the_shop_parses() -> None:
    """A domain without visibility is public; neither is private; the class is looked for in `app`."""
    assert parse_manifest(SHOP, "m") == Application(
        name="shop",
        services=(Service(name="api", visibility=Visibility.PUBLIC, cname="shop-api"),),
        actors=(Actor(name="shopping-cart"),),
    )


def test_a_placement_arrives_as_it_is_written() -> None:
    """Region, labels and strictness; an actor without the block may be anywhere."""
    text = inside(' actor "a" { placement { region = "eu" labels = { disk = "fast" tier = "1" } strict = true } } actor "b" { }')
    placed, anywhere = parse_manifest(text, "m").actors
    assert placed.placement == Placement(region="eu", labels={"disk": "fast", "tier": "1"}, strict=True)
    assert anywhere.placement == Placement()


def test_every_kind_of_block_parses() -> None:
    """Everything a manifest can declare arrives as a value of its own type."""
    uploads_rules = (
        Rule(actions=(Action.PUT, Action.COPY), prefix="in/", suffix=".pdf"),
        Rule(actions=(Action.DELETE, Action.LIFECYCLE_DELETION)),
    )
    debug = EnvVariable(name="LOG_LEVEL", default="debug")
    assert parse_manifest(COLLABORATIVE, "m") == Application(
        name="collaborative-platform",
        module="platform.units",
        env=(EnvVariable(name="JWT_SECRET", secret=True), EnvVariable(name="LOG_LEVEL", default='in"fo"\n\t\\')),
        services=(
            Service(name="api", visibility=Visibility.PUBLIC, fqdn="api.example.com", env=(debug,)),
            Service(name="auth", visibility=Visibility.PROTECTED, handler="platform.web:app"),
            Service(name="notifications"),
            Service(name="docs", visibility=Visibility.PUBLIC, fqdn="docs.example.com"),
        ),
        actors=(
            Actor(name="user-session"),
            Actor(name="document_store-2"),
            Actor(name="chat-room", visibility=Visibility.PUBLIC),
        ),
        observers=(
            Observer(name="indexer", bucket="uploads", rules=uploads_rules),
            Observer(name="everything", bucket="uploads"),
            Observer(name="mailer", queue="mails", handler="platform.mail:Mailer"),
        ),
        queues=(
            Queue(
                name="mails",
                max_batch_size=10,
                max_batch_timeout_s=2.5,
                max_retries=3,
                retry_delay_s=30,
                dead_letter_queue="mails-dead",
                retention_s=86400,
            ),
            Queue(name="mails-dead"),
        ),
        buckets=(Bucket(name="uploads", visibility=Visibility.PUBLIC),),
        tasks=(Task(name="nightly", cron="0 2 * * 1-5", timezone="Europe/Berlin"), Task(name="cleanup", cron="@daily")),
        kv_caches=(KvCache(name="sessions"),),
        sql_databases=(SqlDatabase(name="reports"),),
    )


def test_units_know_their_place_and_binding() -> None:
    """Whoever cannot find a unit's class can say where the unit is declared."""
    shop = parse_manifest(SHOP, "shop/stead.manifest")
    assert [str(unit.position) for unit in shop.units] == ["shop/stead.manifest:2:3", "shop/stead.manifest:3:3"]
    assert shop.actors[0].binding == "SHOPPING_CART"
    assert shop.services[0].domain == "shop-api"
    assert (shop.actors[0].kind, Position("a", 1, 2)) == ("actor", ("a", 1, 2))


@pytest.mark.parametrize(
    "text",
    [
        'application "a" {}',
        '\ufeff\r\n application\n"a"\r\n{\r\n}\r\n',
        'application "2-a_b" { service "x" { domain { cname = "x" } } } // end',
        'application "a" { observer "o" { source { queue = "q" } } queue "q" {} }',
        'application "a" { observer "o" { source { bucket = "b" } rule { } } bucket "b" {} }',
        'application "a" { task "t" { cron = "*/5 0-6,8 L * *" } }',
        'application "a" { env "X" {} service "s" { env "X" {} } service "t" { env "X" {} } }',
    ],
)
def test_what_real_manifests_look_like_parses(text: str) -> None:
    """White space never counts, names are kebab, snake or mixed, and a name may be used before it is declared."""
    assert parse_manifest(text, "m").position.file == "m"


def inside(body: str) -> str:
    return f'application "a" {{\n{body}\n}}'


LABEL_HINT = "a label has 1 to 63 letters, digits and inner hyphens"
NAME_HINT = "lower-case letters, digits, - and _, 128 at most, such as"
CRON_HINT = 'minute hour day month weekday, such as "0 2 * * *" or "@daily"'
SHARED_HINT = "rename one, for all units share one namespace"

MISTAKES = [
    ("", 1, 1, "there is no `application`", 'write application "name" { } around everything'),
    ('application "a" {}\napplication "b" {}', 2, 1, "a second `application` in a manifest", "keep one of them"),
    ("application {}", 1, 1, "`application` needs a name", 'write application "name" { }'),
    ('application "Big Shop" {}', 1, 1, '"Big Shop" is no name for a unit', f'{NAME_HINT} "big-shop"'),
    (inside('  servise "x" {}'), 2, 3, "unknown block `servise` in `application`", "did you mean `service`?"),
    (inside('  service "x" { service "y" {} }'), 2, 17, "unknown block `service` in `service`", "it belongs in `application`"),
    (
        inside('  service "x" { visibilty = "public" }'),
        2,
        17,
        "unknown attribute `visibilty` in `service`",
        "did you mean `visibility`?",
    ),
    (inside('  queue "x" { visibility {} }'), 2, 15, "unknown block `visibility` in `queue`", "it holds no blocks: remove it"),
    (
        inside('  bucket "x" { visibility {} }'),
        2,
        16,
        "unknown block `visibility` in `bucket`",
        "it is an attribute: write visibility = value",
    ),
    (
        inside('  observer "x" { rule {} source = "b" }'),
        2,
        26,
        "unknown attribute `source` in `observer`",
        "it is a block: write source { }",
    ),
    (inside('  service "x" "y" {}'), 2, 3, "`service` takes one name only", 'remove "y"'),
    (inside('  service "" {}'), 2, 3, "`service` needs a name", 'write service "name" { }'),
    (inside(' service "x" { domain "d" { cname = "x" } }'), 2, 16, "`domain` takes no name", 'remove "d"'),
    (
        inside('  module = "app.py/x"'),
        2,
        3,
        '`module` must be the name of a Python module, not "app.py/x"',
        'such as "app" or "shop.units", without .py',
    ),
    (
        inside(' actor "x" { handler = "app.X" }'),
        2,
        14,
        '`handler` must read module:Class, not "app.X"',
        'such as "shop.carts:ShoppingCart"',
    ),
    (inside(' actor "userSession" {}'), 2, 2, '"userSession" is no name for a unit', f'{NAME_HINT} "user-session"'),
    (inside(' actor "x" {}\n service "x" {}'), 3, 2, 'duplicate name "x"', f"the actor on line 2 has it; {SHARED_HINT}"),
    (
        inside(' actor "a-b" {}\n queue "a_b" {}'),
        3,
        2,
        '"a_b" and "a-b" are both env.A_B',
        f"the actor on line 2 has it; {SHARED_HINT}",
    ),
    (
        inside(' env "API" {}\n service "api" {}'),
        3,
        2,
        '"api" and "API" are both env.API',
        f"the env on line 2 has it; {SHARED_HINT}",
    ),
    (
        inside(' actor "x" {}\n service "y" { env "X" {} }'),
        3,
        16,
        '"X" and "x" are both env.X',
        f"the actor on line 2 has it; {SHARED_HINT}",
    ),
    (inside(' actor "logger" {}'), 2, 2, 'the name "logger" is reserved', "every unit has `logger` already; rename this one"),
    (inside(' env "Mem" {}'), 2, 2, 'the name "Mem" is reserved', "every unit has `mem` already; rename this one"),
    (
        inside(' env "MY-KEY" {}'),
        2,
        2,
        '"MY-KEY" is no name for a variable',
        'letters, digits and _, a letter first, such as "API_KEY"',
    ),
    (
        inside(' env "X" { secret = "yes" }'),
        2,
        12,
        '`secret` must be true or false, not "yes"',
        "write true or false without quotes",
    ),
    (inside(' env "X" { default = 5 }'), 2, 12, "`default` must be text, not 5", "write it in double quotes"),
    (
        inside(' env "X" { secret = true default = "hunter2" }'),
        *(2, 26, 'the secret "X" has a default', "a manifest is no place for secrets: remove `default`, or `secret` if it is none"),
    ),
    (inside(' service "x" { visibility = "publik" }'), 2, 16, '`visibility` cannot be "publik"', 'did you mean "public"?'),
    (
        inside(' service "x" { visibility = "open"\n visibility = "public" }'),
        3,
        2,
        "a second `visibility` in `service`",
        "keep one of them",
    ),
    (
        inside(' actor "x" { domain { cname = "my_shop" } }'),
        2,
        23,
        '`cname` must be one label of a host name, not "my_shop"',
        LABEL_HINT,
    ),
    (
        inside(' actor "x" { domain { cname = "a.b" } }'),
        *(2, 23, '`cname` must be one label of a host name, not "a.b"', 'a whole host is written fqdn = "a.b"'),
    ),
    (
        inside(' service "x" { domain = "shop" }'),
        *(2, 16, '`domain` must be a whole host name such as shop.example.com, not "shop"'),
        'a first label alone is written domain { cname = "shop" }',
    ),
    (inside(' service "x" { domain {} }'), 2, 16, "`domain` needs exactly one of `cname` and `fqdn`", 'such as cname = "shop"'),
    (
        inside(' service "x" { domain = "a.b" domain { cname = "x" } }'),
        2,
        31,
        "a second `domain` in `service`",
        "keep the block or the attribute",
    ),
    (
        inside(' service "x" { domain { cname = "s" } }\n service "y" { domain { cname = "S" } }'),
        *(3, 25, 'two units at cname "s"', 'the service "x" on line 2 answers there; choose another'),
    ),
    (
        inside(' bucket "b" {}\n service "x" { domain { cname = "s3" } }'),
        *(3, 25, 'the cname "s3" is that of the S3 endpoint', "choose another; S3 clients of the buckets speak to it"),
    ),
    (
        inside(' bucket "b" {}\n service "s3" { visibility = "public" }'),
        *(3, 2, 'the cname "s3" is that of the S3 endpoint'),
        'the service has it by its name; add domain { cname = "files" }, or rename it',
    ),
    (
        inside(' service "shop" { visibility = "public" }\n service "x" { domain { cname = "shop" } }'),
        *(3, 25, 'two units at cname "shop"', 'the service "shop" on line 2 answers there; choose another'),
    ),
    (
        inside(' service "x" { domain { fqdn = "a.b" } }\n actor "y" { domain = "a.b" }'),
        *(3, 14, 'two units at fqdn "a.b"', 'the service "x" on line 2 answers there; choose another'),
    ),
    (
        inside(' observer "o" {}'),
        2,
        2,
        'the observer "o" has no `source`',
        'write source { bucket = "name" } or source { queue = "name" }',
    ),
    (
        inside(' bucket "b" {} queue "q" {}\n observer "o" { source { bucket = "b" queue = "q" } }'),
        *(3, 17, "`source` needs exactly one of `bucket` and `queue`", "one observer for each source"),
    ),
    (
        inside(' observer "o" { source {} }'),
        2,
        17,
        "`source` needs exactly one of `bucket` and `queue`",
        "one observer for each source",
    ),
    (
        inside(' bucket "uploads" {}\n observer "o" { source { bucket = "upload" } }'),
        3,
        26,
        'there is no bucket "upload"',
        'did you mean "uploads"?',
    ),
    (inside(' observer "o" { source { queue = "q" } }'), 2, 26, 'there is no queue "q"', 'add queue "q" { } to the application'),
    (
        inside(' queue "q" {}\n observer "o" { source { queue = "q" } }\n observer "p" { source { queue = "q" } }'),
        *(4, 26, 'two observers on the queue "q"', 'the observer "o" on line 3 has it; a message goes to one observer'),
    ),
    (
        inside(' queue "q" {}\n observer "o" { source { queue = "q" } rule {} }'),
        *(3, 40, "a `rule` chooses among the events of a bucket, and this source is a queue", "remove the rule"),
    ),
    (
        inside(' bucket "b" {} observer "o" { source { bucket = "b" rule { actions = ["PutObjekt"] } } }'),
        *(2, 60, '`actions` cannot contain "PutObjekt"', 'did you mean "PutObject"?'),
    ),
    (inside(' task "t" {}'), 2, 2, 'the task "t" has no `cron`', 'say when it runs: cron = "0 2 * * *" or "@daily"'),
    (inside(' task "t" { cron = "0 2 * *" }'), 2, 13, '`cron` must have five fields, not "0 2 * *"', CRON_HINT),
    (inside(' task "t" { cron = "0 0 2 * * *" }'), 2, 13, '`cron` must have five fields, not "0 0 2 * * *"', CRON_HINT),
    (
        inside(' task "t" { cron = "0 25 * * *" }'),
        *(2, 13, '`cron` has a bad hour in "0 25 * * *"', "minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7"),
    ),
    (
        inside(' task "t" { cron = "0 0 32 1 *" }'),
        *(2, 13, '`cron` has a bad day-of-month in "0 0 32 1 *"', "minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7"),
    ),
    (
        inside(' task "t" { cron = "0 0 30 2 *" }'),
        *(2, 13, '`cron` never fires: no such day is in "0 0 30 2 *"', "check the day against the month"),
    ),
    (
        inside(' task "t" { cron = "0 0 */15 * 2#2" }'),
        *(2, 13, '`cron` never fires: no day fits "0 0 */15 * 2#2"', "check day, month and weekday together"),
    ),
    (inside(' task "t" { cron = "@dayly" }'), 2, 13, '`cron` has no alias "@dayly"', 'did you mean "@daily"?'),
    (
        inside(' task "t" { cron = "@daily" type = "queue" }'),
        2,
        29,
        '`type` can only be "cron", not "queue"',
        "leave it out: every task is one",
    ),
    (
        inside(' task "t" { cron = "@daily" timezone = "Europe/Berlim" }'),
        *(2, 29, '`timezone` knows no zone "Europe/Berlim"', 'did you mean "Europe/Berlin"?'),
    ),
    (
        inside(' task "t" { cron = "@daily" timezone = "../etc/passwd" }'),
        *(2, 29, '`timezone` knows no zone "../etc/passwd"', 'such as "Europe/Berlin" or "UTC"'),
    ),
    (
        inside(' queue "q" { max_batch_size = 0 }'),
        2,
        14,
        "`max_batch_size` must be a whole number above 0, not 0",
        "leave it out for the default",
    ),
    (
        inside(' queue "q" { max_retries = 1.5 }'),
        2,
        14,
        "`max_retries` must be a whole number from 0, not 1.5",
        "leave it out for the default",
    ),
    (
        inside(' queue "q" { retention_s = -1 }'),
        2,
        14,
        "`retention_s` must be a number of seconds above 0, not -1",
        "leave it out for the default",
    ),
    (
        inside(' queue "q" { dead_letter_queue = "q" }'),
        *(2, 14, 'the queue "q" is its own dead-letter queue', 'add one, such as queue "q-dead" { }'),
    ),
    (inside(' queue "q" { dead_letter_queue = "r" }'), 2, 14, 'there is no queue "r"', 'add queue "r" { } to the application'),
    *(
        (
            inside(f' {kind} "x" {{ anything = [{{}}] }}'),
            2,
            2,
            f"`{kind}` is not supported yet",
            "remove this block; a later release will read it",
        )
        for kind in ("vector_index", "smartbucket", "smartsql", "smartmemory", "mcp_service")
    ),
    # Syntax
    (inside(" actor x {}"), 2, 8, "the name x is not in quotes", 'write "x"'),
    (inside(" actor 'x' {}"), 2, 8, "text in single quotes", "use double quotes"),
    (inside(' env "X" { default = "a\\d" }'), 2, 22, "this text has an unknown escape", 'there are \\" \\\\ \\n and \\t'),
    (
        inside(' env "X" { default = "a\n }'),
        2,
        22,
        "this text is never closed",
        'end it with " on the same line; a line break is written \\n',
    ),
    (inside(" /* "), 2, 2, "this comment is never closed", "end it with */"),
    (
        inside(' actor "x" { placement { strict = true } }'),
        *(2, 14, "`placement` says neither `region` nor `labels`"),
        'such as region = "eu"; without `placement` any node may have the actors',
    ),
    (
        inside(' actor "x" { placement { region = "" } }'),
        *(2, 26, '`region` must be the name of a region, not ""', 'as nodes have it from --region, such as "eu"'),
    ),
    (
        inside(' actor "x" { placement { labels = "fast" } }'),
        *(2, 26, '`labels` must be an object of names and texts, not "fast"'),
        'as nodes have them from --labels, such as { disk = "fast" }',
    ),
    (
        inside(' actor "x" { placement { labels = { disk = 7 } } }'),
        *(2, 26, '`labels` must have text for "disk", not 7', 'as nodes have them from --labels, such as { disk = "fast" }'),
    ),
    (
        inside(' actor "x" { placement { labels = { a = "1" a = "2" } } }'),
        *(2, 26, '`labels` has two values for "a"', "a node has one value for a label: keep one of them"),
    ),
    (
        inside(' actor "x" { placement { labels { disk = "fast" } region = "eu" } }'),
        *(2, 26, "unknown block `labels` in `placement`", "it is an attribute: write labels = value"),
    ),
    (
        inside(' actor "x" { placement { regoin = "eu" } }'),
        *(2, 26, "unknown attribute `regoin` in `placement`", "did you mean `region`?"),
    ),
    (inside(' service "x" { placement { } }'), 2, 16, "unknown block `placement` in `service`", "it belongs in `actor`"),
    (
        inside(' actor "x" { placement { region = "eu" } placement { region = "us" } }'),
        *(2, 42, "a second `placement` in `actor`", "keep one of them"),
    ),
    (
        inside(' service "x" { visibility "public" }'),
        2,
        36,
        "expected `=` or `{`, found `}`",
        'write visibility = value, or visibility "name" { }',
    ),
    (
        inside(' service "x" { visibility =\n }'),
        *(2, 28, "expected a value, found the end of the line"),
        'a value is "text", a number, true, false, [ a list ] or { name = value }',
    ),
    (inside(" }"), 3, 1, "expected a block or an attribute, found `}`", 'such as service "api" { } or visibility = "public"'),
    ('application "a" {', 1, 1, "the braces of `application` are never closed", "add the missing }"),
    (inside(" @"), 2, 2, "this is no word of the manifest language", 'text stands in "quotes", comments follow # or //'),
]


@pytest.mark.parametrize(("text", "line", "column", "problem", "hint"), MISTAKES)
def test_a_mistake_is_told_with_its_place_and_what_to_do(text: str, line: int, column: int, problem: str, hint: str) -> None:
    """Each mistake has its line, its column and a hint."""
    assert (line, column, problem, hint) in errors_of(text)


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    """One run shows everything: unknown words, bad values, duplicates and references."""
    text = inside(
        ' queue "q" { max_retries = -1 }\n colour = "red"\n actor "q" {}\n observer "o" { source { bucket = "b" } }\n actor "Q" {}'
    )
    assert [(line, column) for line, column, _, _ in errors_of(text)] == [(2, 14), (3, 2), (4, 2), (5, 26), (6, 2), (6, 2)]


def test_reading_goes_on_after_a_syntax_error() -> None:
    """Every slip gives one error, and wrong attributes beside them are told too."""
    lines = [
        "application shop {",
        ' service "api" {',
        '  visibility "public"',
        "  cname =",
        " }",
        ' queue "q" { size = [1 }',
        ' actor "x" { hander = "a:B" }',
        "}",
    ]
    text = "\n".join(lines)
    assert [(line, column) for line, column, _, _ in errors_of(text)] == [(1, 13), (3, 22), (4, 10), (6, 24), (7, 14)]


def test_the_error_reads_as_a_list() -> None:
    """As text the error is every finding with place and hint; as a value it is the first."""
    with pytest.raises(ManifestError) as caught:
        parse_manifest(inside(' actor "logger" {}\n task "t" {}'), "x.manifest")
    assert str(caught.value).splitlines() == [
        'x.manifest:2:2: the name "logger" is reserved',
        "  hint: every unit has `logger` already; rename this one",
        'x.manifest:3:2: the task "t" has no `cron`',
        '  hint: say when it runs: cron = "0 2 * * *" or "@daily"',
    ]
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_names_split_ids_in_one_way_only() -> None:
    """What a manifest accepts as a unit's name is what an actor's id can begin with."""
    assert checks.NAME.pattern == ids.UNIT_PATTERN.pattern


# -- bounds and fuzz


@pytest.mark.parametrize(
    "text",
    [
        "a {" * (FILE_BYTES_MAX // 3),
        "a = " + "[" * (FILE_BYTES_MAX // 2),
        'application "a" {' + "x = [{" * 40_000,
        "/*" * (FILE_BYTES_MAX // 2),
        '"' * FILE_BYTES_MAX,
        "}" * FILE_BYTES_MAX,
        inside('queue "q" {}' * 20_000),
        inside('task "t" { cron = "0 0 */15 * 2#2" }' * 5_000),
        inside('observer "o" { source { bucket = "b" } }' * 5_000),
        " " * (FILE_BYTES_MAX + 1),
        "x = " + "9" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_hostile_size_ends_in_a_bounded_list(text: str) -> None:
    """Deep, long and repetitive input is refused with at most so many errors."""
    assert 1 <= len(errors_of(text)) <= ERRORS_MAX


def test_a_large_manifest_parses() -> None:
    """Thousands of units are fine: no check compares every unit with every other."""
    units = "\n".join(
        f'queue "q{n}" {{ dead_letter_queue = "dead" }} observer "o{n}" {{ source {{ queue = "q{n}" }} }}' for n in range(2_000)
    )
    assert len(parse_manifest(inside(f'queue "dead" {{}}\n{units}'), "m").units) == 4_001


def test_nesting_is_bounded() -> None:
    """One level over the limit is one error, not a crash."""
    deep = inside("x = " + "[" * DEPTH_MAX + "]" * DEPTH_MAX)
    assert [problem for _, _, problem, _ in errors_of(deep)][0] == f"nested more than {DEPTH_MAX} deep"


def parses_or_tells(text: str) -> None:
    try:
        parse_manifest(text, "m")
    except ManifestErrors as exc:
        assert 1 <= len(exc.errors) <= ERRORS_MAX
        assert all(error.line >= 1 and error.column >= 1 and error.hint and error.problem for error in exc.errors)
        assert list(exc.errors) == sorted(exc.errors, key=lambda error: (error.line, error.column))


WORDS = [
    "{",
    "}",
    "[",
    "]",
    "=",
    ",",
    '"',
    "\n",
    "\\",
    "/*",
    "#",
    "-1",
    "1.5",
    "true",
    '"@daily"',
    '""',
    '"Ä"',
    "'x'",
    *COLLABORATIVE.split(),
]


@given(st.text())
def test_any_text_parses_or_is_told_why_not(text: str) -> None:
    """Arbitrary text raises nothing but `ManifestErrors`."""
    parses_or_tells(text)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_words_parse_or_are_told_why_not(words: list[str]) -> None:
    """The language's own words in any order raise nothing but `ManifestErrors`."""
    parses_or_tells(inside(" ".join(words)))


@settings(max_examples=200)
@given(st.integers(0, len(COLLABORATIVE)), st.integers(0, 20), st.sampled_from(WORDS) | st.text(max_size=5))
def test_a_damaged_manifest_parses_or_is_told_why_not(start: int, length: int, patch: str) -> None:
    """A good manifest with a piece replaced raises nothing but `ManifestErrors`."""
    parses_or_tells(COLLABORATIVE[:start] + patch + COLLABORATIVE[start + length :])


@settings(max_examples=200)
@given(
    st.sampled_from(["cron", "timezone", "handler", "type"]),
    st.text(alphabet="0123456789*/,-#L@ MONW", max_size=20) | st.text(max_size=20),
)
def test_any_value_is_taken_or_told_why_not(attribute: str, value: str) -> None:
    """Whatever text an attribute gets raises nothing but `ManifestErrors`."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    parses_or_tells(inside(f'task "t" {{ {attribute} = "{quoted}" }}'))


# -- files


def test_the_stead_manifest_comes_first(tmp_path: Path) -> None:
    """`stead.manifest` is taken, else `raindrop.manifest`, else the error says how to make one."""
    with pytest.raises(ManifestErrors, match="stead new NAME"):
        find_manifest(tmp_path)
    (tmp_path / "raindrop.manifest").write_text(SHOP)
    assert find_manifest(tmp_path).name == "raindrop.manifest"
    (tmp_path / "stead.manifest").write_text(SHOP)
    assert find_manifest(tmp_path).name == "stead.manifest"
    assert load_manifest(tmp_path / "stead.manifest").actors[0].position == (str(tmp_path / "stead.manifest"), 3, 3)


def test_a_file_that_is_no_text_is_told_where(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 have a line and a column in characters."""
    path = tmp_path / "stead.manifest"
    path.write_bytes("# ok\n# Ä ".encode() + b"\xff")
    with pytest.raises(ManifestErrors) as caught:
        load_manifest(path)
    assert (caught.value.line, caught.value.column, caught.value.hint) == (2, 5, "save the file as UTF-8")


def test_unreadable_and_oversized_files_are_refused(tmp_path: Path) -> None:
    """What is missing, a directory or too large is an error that names the file."""
    large = tmp_path / "large.manifest"
    large.write_text("Ä" * (FILE_BYTES_MAX // 2 + 1))
    for path in (tmp_path / "missing.manifest", tmp_path, large):
        with pytest.raises(ManifestErrors, match="cannot be read"):
            load_manifest(path)


def test_the_manifests_of_the_documentation_parse() -> None:
    """What the page shows can be copied."""
    page = (Path(__file__).parent.parent / "docs" / "manifest.md").read_text()
    shown = re.findall(r"```manifest\n(.*?)```", page, re.DOTALL)
    assert [parse_manifest(text, "docs/manifest.md").name for text in shown] == ["shop", "collaborative-platform"]
