# SPDX-License-Identifier: MIT
"""Text and Markdown tables, and the documents that recipes write tables into."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from host_sim.setup.shell import ROOT

# Generated tables are between two marker lines in these files.
README, NUMBERS, SIMULATOR = ROOT / "README.md", ROOT / "docs" / "numbers.md", ROOT / "docs" / "simulator.md"


def aligned(rows: Iterable[Iterable[str]]) -> str:
    """Rows as text: the first column left-aligned, the others right-aligned."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def write_between(path: Path, start: str, end: str, text: str) -> None:
    """Replace the text between two marker lines of a file; ValueError unless the pair occurs exactly once."""
    content = path.read_text()
    pattern = re.escape(start) + ".*?" + re.escape(end)
    changed, count = re.subn(pattern, lambda _: f"{start}\n{text}\n{end}", content, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{path}: must have the lines {start} and {end} exactly once")
    path.write_text(changed)
