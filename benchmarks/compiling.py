"""What has to be as fast as it can be is written in C, and compiled where it is used."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def compile_c(source: Path, directory: Path) -> Path | None:
    """The program that a source comes to, None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    binary = directory / source.stem
    subprocess.run([compiler, "-O2", "-o", str(binary), str(source)], check=True)
    return binary
