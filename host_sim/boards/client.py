# SPDX-License-Identifier: MIT
"""Starts a virtual board in its own process and runs mpremote on it.

with Board(kind="unix") as board:
    board.mpremote("run", "firmware/classify.py")
"""

import subprocess
import sys
from pathlib import Path

from host_sim.boards.kinds import HEAP, UNIX, firmware_of
from host_sim.setup.shell import ROOT, Failure


class Board:
    """A virtual board in its own process, for the duration of a `with` block.

    `path` is its device and `process` the serving process. `flash` is the directory that becomes the board's root (kind
    "qemu": a snapshot of it at /rom); by default a temporary directory. Either way firmware/'s package, models and
    images are copied into it. `unchecked` skips the self-check of the emulator that kind "esp32s3" starts with.
    """

    def __init__(
        self,
        flash: Path | None = None,
        heap: str = HEAP,
        program: Path | None = None,
        kind: str = UNIX,
        unchecked: bool = False,
    ):
        self.flash, self.heap, self.program, self.kind, self.unchecked = flash, heap, program, kind, unchecked

    def __enter__(self) -> "Board":
        program = self.program or firmware_of(self.kind)
        module = [sys.executable, "-m", "host_sim.boards"]
        command: list[str | Path] = [*module, "serve", self.kind, "--until-eof", "--heap", self.heap]
        command += ["--program", program.resolve(), *(["--unchecked"] if self.unchecked else [])]
        if self.flash:
            command += ["--flash", self.flash.resolve()]
        # However this process ends, the pipe is closed with it, and the server ends when the pipe closes.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.path = (self.process.stdout.readline() if self.process.stdout else "").strip()
        if not self.path:
            self.process.wait()
            raise Failure("the virtual board did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def command(self, *arguments: str | Path) -> list[str]:
        """The mpremote command line that runs `arguments` on this board."""
        return [sys.executable, "-m", "mpremote", "connect", self.path, *map(str, arguments)]

    def mpremote(self, *arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run mpremote on this board; returns its status and output."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )


def stream(command: list[str]) -> tuple[int, str]:
    """Run a command and echo its output line by line; returns its status and its output."""
    output = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        for line in process.stdout or ():
            output += line
            sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
            sys.stdout.buffer.flush()
    return process.returncode, output.decode(errors="replace")
