# SPDX-License-Identifier: MIT
"""Tables for people, and the documents that hold those that recipes write."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import ROOT

# Each generated table stands between two marker lines of one of these.
README, NUMBERS, SIMULATOR = ROOT / "README.md", ROOT / "docs" / "numbers.md", ROOT / "docs" / "simulator.md"


def aligned(rows: Iterable[Iterable[str]]) -> str:
    """Rows as text: the first column to the left, the others to the right."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a table of markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def write_between(path: Path, start: str, end: str, text: str) -> None:
    """Replace what stands between two marker lines of a file; ValueError unless each is there once."""
    content = path.read_text()
    pattern = re.escape(start) + ".*?" + re.escape(end)
    changed, count = re.subn(pattern, lambda _: f"{start}\n{text}\n{end}", content, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{path}: needs the lines {start} and {end} once")
    write_whole(path, changed)
