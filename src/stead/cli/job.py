"""What the parent of `stead serve --workers N` tells its workers, and how one says that it cannot begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

EXIT_FAILED = 3  # it cannot begin: to start it again would not help
WORKER = "stead.cli.worker"
# A worker leaves signals to its parent from its first line on: an interrupted import would print a traceback.
BOOT = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from {WORKER} import main; main()"


class WorkerJob(msgspec.Struct, frozen=True):
    """What a worker is to do."""

    place: Path
    settings: dict[str, Any]
    cluster: dict[str, Any]
    index: int  # of `cluster["workers"]`, from 0
    port: int  # that all share
    token: str
    keys: list[str]  # of the channels between them

    def encode(self) -> bytes:
        """One line."""
        return msgspec.json.encode(self, enc_hook=str)


def decode_job(line: bytes) -> WorkerJob:
    return msgspec.json.decode(line, type=WorkerJob, dec_hook=lambda type_, value: type_(value))
