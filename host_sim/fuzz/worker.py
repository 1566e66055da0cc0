# SPDX-License-Identifier: MIT
"""Runs cases of one kind in a process of its own, which may die of them.

python -m MODULE KIND SEED FIRST SECONDS FOLDER [BOARD]

FOLDER/at: the number of the case that runs, FOLDER/case: its bytes. Each case that fails without ending the process
is a line of JSON on stdout: its number, the fault, and the name of a copy of its bytes.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from host_sim.setup.shell import ROOT

SLOW = 20  # seconds of this process that a case may take
HANGS = 60  # and that it may take in all
LONGEST = 400  # characters of an error


class Fault(Exception):
    """A wrong answer to a case."""


class Kind(Protocol):
    """A kind of cases."""

    def make(self, chance: random.Random) -> bytes:
        """The bytes of a case."""

    def check(self, path: Path) -> None:
        """Raise for a wrong answer to the case in the file `path`."""


def one_short_line(text: str) -> None:
    """Fault unless an error is one printable line of bounded length."""
    if not text.isprintable() or len(text) > LONGEST:
        raise Fault(f"an error of {len(text)} characters, or of several lines: {text[:LONGEST]!a}")


class Board:
    """MicroPython's unix port, which answers lines (on_board/answers.py); started again whenever it dies."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.process: subprocess.Popen | None = None

    def start(self) -> subprocess.Popen:
        """The running process."""
        if self.process is None or self.process.poll() is not None:
            here = Path(__file__).parent / "on_board"
            environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
            environment |= {"MICROPYPATH": f"{here}:{ROOT / 'firmware'}", "ASAN_OPTIONS": "detect_leaks=0"}
            self.process = subprocess.Popen(
                [self.program, "-X", "heapsize=16m", here / "answers.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
            )
        return self.process

    def answer(self, kind: str, argument: str) -> str:
        """Its answer; Fault if it dies, or raises something unforeseen."""
        process = self.start()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{kind} {argument}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        words = line.split()
        if not words or words[0] == "EXCEPTION" or "runtime error:" in line or "Sanitizer" in line or "=====" in line:
            rest = ""
            if not words or words[0] != "EXCEPTION":
                process.kill()
                rest = process.stdout.read()
                process.wait()
            raise Fault(f"on the board: {line}{rest[:3000]}")
        return line.rstrip("\n")

    def close(self) -> None:
        """End it."""
        if self.process:
            self.process.kill()
            self.process.wait()


def write_case(path: Path, content: bytes) -> None:
    """Write the bytes of a case."""
    path.write_bytes(content)


def run(kind: Kind, name: str, seed: int, first: int, seconds: float, folder: Path) -> None:
    """Run cases from number `first` on for some seconds."""
    end, number = time.monotonic() + seconds, first
    case = folder / "case"
    at = os.open(folder / "at", os.O_WRONLY | os.O_CREAT, 0o666)
    while time.monotonic() < end:
        os.pwrite(at, b"%20d" % number, 0)
        content = kind.make(random.Random(f"{seed} {name} {number}"))
        write_case(case, content)
        started = time.process_time()
        signal.alarm(HANGS)  # ends the process
        try:
            kind.check(case)
            if time.process_time() - started > SLOW:
                raise Fault(f"took {time.process_time() - started:.0f} s")
        except Exception as error:
            copy = folder.parent / f"{name}-{seed}-{number}"
            shutil.copy(case, copy)
            trace = "" if isinstance(error, Fault) else traceback.format_exc(limit=-3)
            print(
                json.dumps({"number": number, "fault": f"{type(error).__name__}: {error} {trace}"[:4000]}), flush=True
            )
        signal.alarm(0)
        number += 1
    os.pwrite(at, b"%20d" % number, 0)


def main(kinds: dict[str, Callable[[Board | None], Kind]]) -> None:
    """Command line of a module that has some kinds."""
    name, seed, first, seconds, folder, *program = sys.argv[1:]
    board = Board(Path(program[0])) if program else None
    try:
        run(kinds[name](board), name, int(seed), int(first), float(seconds), Path(folder))
    finally:
        if board:
            board.close()
