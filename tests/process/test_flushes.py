"""Flushes as the kernel sees them: few for many requests, and each before the answer that depends on it."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stead.storage.sqlite.file import FILE_NAME

if TYPE_CHECKING:
    from tests.process.conftest import Serve

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
COUNTER = ROOT / "examples" / "counter"
UNWRITTEN = (str(ROOT / "tests" / "crash" / "sabotaged.py"), "unwritten")
CLIENTS = 64
REQUESTS_PER_CLIENT = 40
FLUSHES_PER_REQUEST_MAX = 0.2
REQUESTS = 20
READS = frozenset({"read", "recvfrom", "recvmsg"})
WRITES = frozenset({"write", "writev", "sendto", "sendmsg"})

_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)$").match
_RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$").match


async def increment(port: int, name: int) -> None:
    """One client at its counter, one request after the other; by hand, as a client slower than the disk leaves nothing to share."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for expected in range(1, REQUESTS_PER_CLIENT + 1):
        writer.write(b"POST /counter/%d HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n" % name)
        answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(len(str(expected)))
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n%d" % expected)
    writer.close()


async def increment_together(port: int) -> None:
    await asyncio.gather(*(increment(port, name) for name in range(CLIENTS)))


def flushes(summary: str) -> int:
    """All flushes in the table that `strace -c` prints."""
    rows = [line.split() for line in summary.splitlines() if line.endswith(("fsync", "fdatasync"))]
    return sum(int(row[3]) for row in rows)


def early_answers(trace: str) -> tuple[int, int]:
    """How many requests were answered, and how many of them before a flush of the log that began after they were read."""
    answered = early = 0
    is_waiting = is_flushed = False
    flushing: dict[str, bool] = {}  # by thread: whether the flush it is in began after the request was read
    for line in trace.splitlines():
        if match := _RESUMED(line) or _CALL(line):
            call, rest = match["call"], match["rest"]
            if call in READS and '"POST ' in rest:
                is_waiting, is_flushed = True, False
                flushing.clear()
            elif call == "fdatasync" and "resumed>" in line:
                is_flushed |= flushing.pop(match["thread"], False)
            elif call == "fdatasync" and f"{FILE_NAME}-wal>" in rest:
                if "<unfinished" in rest:
                    flushing[match["thread"]] = is_waiting
                else:
                    is_flushed = True
            elif call in WRITES and '"HTTP/1.1 200' in rest:
                assert is_waiting
                answered += 1
                early += not is_flushed
                is_waiting = False
    return answered, early


def trace_of_one_client(serve: Serve, strace: str, tmp_path: Path, launcher: tuple[str, ...] | None) -> str:
    output = tmp_path / "trace"
    calls = f"trace={','.join(('fdatasync', 'fsync', *sorted(READS | WRITES)))}"
    tracer = (strace, "-f", "-y", "-s", "32", "-e", calls, "-o", str(output))
    chosen = {} if launcher is None else {"launcher": launcher}
    with serve(COUNTER, tmp_path / "data", tracer=tracer, **chosen) as server, server.client() as client:
        for expected in range(1, REQUESTS + 1):
            assert client.post("/counter/a").text == str(expected)
        server.end(signal.SIGTERM)
    return output.read_text()


def test_many_requests_share_a_flush(serve: Serve, strace: str, tmp_path: Path) -> None:
    """64 concurrent clients cost well under one flush per request, those of start and stop included."""
    output = tmp_path / "summary"
    tracer = (strace, "-f", "--seccomp-bpf", "-c", "-e", "trace=fdatasync,fsync", "-o", str(output))
    with serve(COUNTER, tmp_path / "data", tracer=tracer) as server:
        asyncio.run(increment_together(server.port))
        assert server.end(signal.SIGTERM) == 0
    count = flushes(output.read_text())
    print(f"{count} flushes for {CLIENTS * REQUESTS_PER_CLIENT} requests of {CLIENTS} clients")
    assert 0 < count <= CLIENTS * REQUESTS_PER_CLIENT * FLUSHES_PER_REQUEST_MAX


def test_no_answer_leaves_before_its_flush(serve: Serve, strace: str, tmp_path: Path) -> None:
    """Between reading a request and writing its answer the kernel has begun and ended a flush of the log."""
    assert early_answers(trace_of_one_client(serve, strace, tmp_path, None)) == (REQUESTS, 0)


def test_an_early_answer_is_found(serve: Serve, strace: str, tmp_path: Path) -> None:
    """The planted bug: a server that answers and does not write does not get past the same check."""
    assert early_answers(trace_of_one_client(serve, strace, tmp_path, UNWRITTEN)) == (REQUESTS, REQUESTS)


ASKED = '1 recvfrom(7<TCP:[1->2]>, "POST /counter/a HTTP/1.1"..., 4096, 0, NULL, NULL) = 90'
ASKED_SLOWLY = ("1 recvfrom(7<TCP:[1->2]>,  <unfinished ...>", '1 <... recvfrom resumed>"POST /counter/a HTTP/1.1"..., 4096) = 90')
ANSWERED = '1 sendto(7<TCP:[1->2]>, "HTTP/1.1 200 OK"..., 90, 0, NULL, 0) = 90'
FLUSHED = f"2 fdatasync(5</data/{FILE_NAME}-wal>) = 0"
FLUSHES = f"2 fdatasync(5</data/{FILE_NAME}-wal> <unfinished ...>"
HAS_FLUSHED = "2 <... fdatasync resumed>) = 0"


@pytest.mark.parametrize(
    ("lines", "early"),
    [
        ((ASKED, FLUSHED, ANSWERED), 0),
        ((ASKED, FLUSHES, HAS_FLUSHED, ANSWERED), 0),
        ((*ASKED_SLOWLY, FLUSHED, ANSWERED), 0),
        ((ASKED, ANSWERED, FLUSHED), 1),
        ((ASKED, FLUSHES, ANSWERED, HAS_FLUSHED), 1),
        ((FLUSHED, *ASKED_SLOWLY, ANSWERED), 1),
        ((FLUSHES, ASKED, HAS_FLUSHED, ANSWERED), 1),
        ((FLUSHES, *ASKED_SLOWLY, HAS_FLUSHED, ANSWERED), 1),
        ((ASKED, FLUSHED.replace("-wal", ""), ANSWERED), 1),
    ],
)
def test_how_a_trace_is_read(lines: tuple[str, ...], early: int) -> None:
    """A flush counts that began after the request was read and ended before it was answered, whichever calls overlap."""
    assert early_answers("\n".join(lines)) == (1, early)
