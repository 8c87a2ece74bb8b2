"""`python -m benchmarks.flames W2 W3 --to docs/flames`: where Stead's time goes under a load, as flame graphs.

py-spy samples the server, from outside and without slowing it much; what it saw becomes a picture without scripts, which any
browser shows and whose frames say their share when pointed at. Wide is expensive; what stands on a frame was called by it. What a
frame calls in C is part of its own width: sockets under the event loop, SQLite under `execute`.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.client import exchange
from benchmarks.contenders import CONTENDERS, HELLO, PYTHON
from benchmarks.cores import pin_driver
from benchmarks.load import run_load
from benchmarks.server import Server
from benchmarks.workloads import WORKLOADS, Steady

SECONDS = 10
SAMPLES_PER_S = 500
WIDTH, ROW, FONT_PX, CHARACTER_PX = 1200, 17, 11, 6.6
SHARE_MIN = 0.003  # a frame of a lower share is not drawn: three pixels
COLOURS = {"stead": "#1f6f54", "uvicorn": "#b8860b", "starlette": "#a0522d"}
WAITING = "Writer._run (stead/storage/sqlite/writer.py)"  # with nothing on it: the thread has no batch
OTHER_COLOUR = "#7d7a70"
_FRAME = re.compile(r"^(.*) \((.*?)\)$")
_THREAD = re.compile(r"^thread \(\d+\): ", re.MULTILINE)
_ABOVE_CALLBACKS = re.compile(r"^MainThread;.*asyncio/runners\.py:\d+\)", re.MULTILINE)
_FILE = re.compile(r"\((?:[^();]*/(?:site-packages|lib/python3\.\d+|src|examples)/)?([^();]*?)(?::\d+)?\)")


@dataclass
class Frame:
    """A function below its callers, with the samples in which it ran."""

    name: str
    samples: int = 0
    called: dict[str, Frame] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 1 + max((frame.depth for frame in self.called.values()), default=0)


def gather(folded: str) -> Frame:
    """The tree of py-spy's raw lines: callers and callees with `;` between, a space, the number of samples."""
    root = Frame("all")
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if stack.endswith(WAITING):
            continue
        frame = root
        frame.samples += int(count)
        for name in stack.split(";"):
            frame = frame.called.setdefault(name, Frame(name))
            frame.samples += int(count)
    return root


def draw(root: Frame, title: str) -> str:
    """An SVG, the root at the bottom, callees by name."""
    drawn = list(_lay(root, 0.0, 0, root.samples))
    rows = 1 + max(row for _, _, row in drawn)
    height = (rows + 2) * ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="{FONT_PX}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fdfcf8"/>',
        f'<text x="4" y="{ROW - 4}">{html.escape(title)}</text>',
    ]
    for frame, x, row in drawn:
        width = WIDTH * frame.samples / root.samples
        y = height - (row + 1) * ROW
        shown = frame.name[: int((width - 4) / CHARACTER_PX)] if width > 4 * CHARACTER_PX else ""
        lines.append(
            f"<g><title>{html.escape(frame.name)}: {100 * frame.samples / root.samples:.1f} %</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{width - 0.4:.1f}" height="{ROW - 1}" fill="{_colour(frame.name)}"/>'
            f'<text x="{x + 2:.1f}" y="{y + ROW - 5}" fill="#fff">{html.escape(shown)}</text></g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _lay(frame: Frame, x: float, row: int, samples: int) -> Iterator[tuple[Frame, float, int]]:
    yield frame, x, row
    for name in sorted(frame.called):
        callee = frame.called[name]
        if callee.samples >= SHARE_MIN * samples:
            yield from _lay(callee, x, row + 1, samples)
        x += WIDTH * callee.samples / samples


def _colour(name: str) -> str:
    match = _FRAME.match(name)
    return COLOURS.get(match[2].split("/", 1)[0] if match else "", OTHER_COLOUR)


def record(workload: Steady, data: Path) -> Frame:
    """What Stead did during SECONDS of the load."""
    stead = next(contender for contender in CONTENDERS if contender.name == "stead" and workload.kind in contender.serves)
    output = data / "folded"
    with Server(stead, data) as server:
        if workload.kind != HELLO:
            exchange(server.port, "POST", workload.load.paths())
        run_load(server.port, workload.load, 1)
        line = [str(PYTHON.with_name("py-spy")), "record", "--pid", str(server.pid), "--format", "raw", "--function", "--threads"]
        line += ["--full-filenames", "--rate", str(SAMPLES_PER_S), "--duration", str(SECONDS), "--output", str(output)]
        spy = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        run_load(server.port, workload.load, SECONDS + 2)
        _, said = spy.communicate()
    if spy.returncode:
        raise SystemExit(f"py-spy failed: {said}")
    return gather(shorten(output.read_text()))


def shorten(folded: str) -> str:
    """Threads by their names, the event loop from its callbacks on, files from their package on: nothing of one machine or run."""
    folded = _THREAD.sub("", folded)
    folded = _ABOVE_CALLBACKS.sub("event loop", folded)
    return _FILE.sub(r"(\1)", folded)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flames", description="Where Stead's time goes, as flame graphs.")
    parser.add_argument("workloads", nargs="+", choices=[workload.name for workload in WORKLOADS if isinstance(workload, Steady)])
    parser.add_argument("--to", type=Path, required=True, help="directory of the pictures")
    options = parser.parse_args()
    if shutil.which(str(PYTHON.with_name("py-spy"))) is None:
        raise SystemExit("py-spy is not installed: make bench, or pip install -e '.[bench]' -c constraints.txt")
    pin_driver()
    options.to.mkdir(parents=True, exist_ok=True)
    for workload in WORKLOADS:
        if isinstance(workload, Steady) and workload.name in options.workloads:
            with TemporaryDirectory(prefix="flames-") as data:
                root = record(workload, Path(data))
            title = f"{workload.name}: {workload.title}. {root.samples:,} samples"
            (options.to / f"{workload.name.lower()}.svg").write_text(draw(root, title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
