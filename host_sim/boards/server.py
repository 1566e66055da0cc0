# SPDX-License-Identifier: MIT
"""Serves one board: a device for clients such as mpremote, and one interpreter after another behind it."""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

from host_sim.boards.interpreter import Interpreter, open_raw_terminal
from host_sim.setup.shell import Failure

# Bytes kept for a side that does not read; beyond them the other side waits, so that nothing is lost.
PENDING = 1 << 16
# Exit status of the interpreter after a soft reset, by the REPL it was in (raw_repl/raw_repl.c).
EXIT_FRIENDLY = 64
EXIT_RAW = 65


class Pump:
    """Bytes on their way from one terminal to another."""

    def __init__(self, source: int, sink: int):
        self.source, self.sink, self.pending, self.moved = source, sink, b"", 0

    def readers(self) -> list[int]:
        """What to wait for before `read`."""
        return [self.source] if len(self.pending) < PENDING else []

    def writers(self) -> list[int]:
        """What to wait for before `write`."""
        return [self.sink] if self.pending else []

    def read(self) -> bool:
        """Take what there is; false when the other end is gone."""
        try:
            data = os.read(self.source, 4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.pending += data
        return bool(data)

    def write(self) -> None:
        """Pass on what the sink takes."""
        with contextlib.suppress(OSError):
            written = os.write(self.sink, self.pending)
            self.pending = self.pending[written:]
            self.moved += written


class Server:
    """Serves one board: a device for clients, and one interpreter after another behind it.

    run: starts an interpreter that runs `program`; its argument says whether at the raw REPL.
    """

    def __init__(self, program: Path, run: Callable[[bool], "Interpreter"]):
        self.program, self.run = program, run
        # The slave stays open here: the terminal keeps its settings from one client to the next.
        self.client, self.slave = open_raw_terminal()
        self.device = os.ttyname(self.slave)
        self.to_client = Pump(-1, self.client)
        self.to_board = Pump(self.client, -1)
        self.interpreter: Interpreter | None = None

    def start(self, raw: bool) -> None:
        """Start an interpreter with an empty input."""
        self.interpreter = self.run(raw)
        self.to_client.source = self.to_board.sink = self.interpreter.master
        self.to_board.moved = 0

    def restart(self) -> None:
        """Follow a soft reset, or the end of a crashed interpreter, with a new one."""
        assert self.interpreter
        status = self.interpreter.stop()
        if status not in (EXIT_FRIENDLY, EXIT_RAW):
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            if not self.to_board.moved:
                raise Failure(f"{self.program} ended with {name} before anybody used it")
            # Framed as the raw REPL frames an error, so that a waiting mpremote reports it and goes on.
            self.to_client.pending += f"\r\n\x04MicroPython ended with {name}\r\n\x04".encode()
        self.to_client.pending += b"MPY: soft reboot\r\n"
        self.start(raw=status == EXIT_RAW)

    def serve(self, parent: int | None = None) -> None:
        """Pass bytes both ways, until the descriptor `parent` reaches its end if there is one. `start` comes first."""
        watched = [] if parent is None else [parent]
        while True:
            readers = [*self.to_client.readers(), *self.to_board.readers(), *watched]
            writers = [*self.to_client.writers(), *self.to_board.writers()]
            readable, writable, _ = select.select(readers, writers, [])
            if parent in readable and not os.read(parent, 1):
                return
            if self.to_board.source in readable:
                self.to_board.read()
            if self.to_board.sink in writable:
                self.to_board.write()
            if self.to_client.sink in writable:
                self.to_client.write()
            if self.to_client.source in readable and not self.to_client.read():
                self.restart()

    def stop(self) -> None:
        """End the interpreter."""
        if self.interpreter:
            self.interpreter.stop()
