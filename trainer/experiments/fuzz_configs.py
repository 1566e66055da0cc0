# SPDX-License-Identifier: MIT
"""Hostile configurations for `just fuzz`: refused in one line that names the file, or settings that are what they say.

A program to host_sim.fuzz, which lies below the trainer: python -m trainer.experiments.fuzz_configs (see its worker.py)
"""

import random
import re
import shutil
from pathlib import Path

from host_sim.fuzz.worker import Board, Fault, main
from trainer.config import load_config
from trainer.errors import TrainerError, one_line
from trainer.paths import ROOT

VALUES: tuple[str, ...] = (
    "0",
    "-1",
    "1",
    "0.5",
    "1e308",
    "1e999",
    "inf",
    "nan",
    "-inf",
    "true",
    '""',
    '"x"',
    "[]",
    "{}",
    "[1]",
    "[[]]",
)
VALUES += ("9" * 30, "9" * 5000, "1_6", "+2", "2026-01-01", '"\\u0000"', '"' + "x" * 5000 + '"', "[" * 200 + "]" * 200)
VALUES += ("[" * 5000, "{a={a={a=1}}}", "'../..'", '"/dev/null"', "65536", "2147483648", "-9223372036854775809")
CHANGES = ("student.start=random", "a.b.c=1", "=", "student=1", "teacher.epochs=-1", "name.x=1", "student.=1", ".=.")


class Configs:
    """Mutations of the configurations that ship."""

    def __init__(self, board: Board | None = None) -> None:
        self.texts = [path.read_text() for path in sorted((ROOT / "trainer" / "configs").glob("*.toml"))]

    def make(self, chance: random.Random) -> bytes:
        """A configuration with one to four lines changed."""
        lines = chance.choice(self.texts).splitlines()
        for _ in range(chance.randint(1, 4)):
            at, kind = chance.randrange(len(lines)), chance.randrange(7)
            key = lines[at].partition("=")[0]
            if kind < 3 and "=" in lines[at]:
                lines[at] = f"{key}= {chance.choice(VALUES)}"
            elif kind == 3:
                lines.pop(at)
            elif kind == 4:
                lines.insert(at, chance.choice(lines))
            elif kind == 5:
                lines[at] = re.sub(r"[-\d.]+", lambda _: chance.choice(VALUES[:10]), lines[at])
            else:
                place = chance.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:place] + chance.choice('="[]{}#\\\x00\u20ac.,') + lines[at][place:]
            if not lines:
                break
        content = "\n".join(lines).encode()
        return content if chance.random() < 0.98 else content + b"\xff"

    def check(self, path: Path) -> None:
        """Load it, with a change of the command line at times."""
        target = path.with_suffix(".toml")
        shutil.copy(path, target)
        number = len(path.read_bytes())
        changes = [CHANGES[number % len(CHANGES)]] if number % 3 == 0 else []
        try:
            config = load_config(target, changes)
        except TrainerError as error:
            if not str(error).startswith(f"{target}: "):
                raise Fault(f"the error does not name the file: {one_line(error)}") from None
            return
        config.settings()
        config.shaping()


if __name__ == "__main__":
    main({"configs": Configs})
