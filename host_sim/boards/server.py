# SPDX-License-Identifier: MIT
"""Serves one board: a device for clients such as mpremote, and interpreters behind it, one at a time."""

import contextlib
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

from host_sim.boards.interpreter import Interpreter, open_raw_terminal
from host_sim.setup.shell import Failure

# Bytes buffered for a side that does not read; when full, the other side waits, so no byte is lost.
PENDING = 1 << 16
# The interpreter's exit status after a soft reset from each REPL (raw_repl/raw_repl.c).
EXIT_FRIENDLY = 64
EXIT_RAW = 65


class Pump:
    """Copies bytes from one terminal to another."""

    def __init__(self, source: int, sink: int):
        self.source, self.sink, self.pending, self.moved = source, sink, b"", 0

    def readers(self) -> list[int]:
        """Descriptors that must be readable before `read`."""
        return [self.source] if len(self.pending) < PENDING else []

    def writers(self) -> list[int]:
        """Descriptors that must be writable before `write`."""
        return [self.sink] if self.pending else []

    def read(self) -> bool:
        """Read available bytes; returns false when the other end is closed."""
        try:
            data = os.read(self.source, 4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.pending += data
        return bool(data)

    def write(self) -> None:
        """Write as many bytes as the sink accepts."""
        with contextlib.suppress(OSError):
            written = os.write(self.sink, self.pending)
            self.pending = self.pending[written:]
            self.moved += written


class Server:
    """Serves one board: a device for clients, and interpreters behind it, one at a time.

    run: starts an interpreter of `program`; its argument: whether at the raw REPL.
    """

    def __init__(self, program: Path, run: Callable[[bool], "Interpreter"]):
        self.program, self.run = program, run
        # The slave stays open so that the terminal keeps its settings between clients.
        self.client, self.slave = open_raw_terminal()
        self.device = os.ttyname(self.slave)
        self.to_client = Pump(-1, self.client)
        self.to_board = Pump(self.client, -1)
        self.interpreter: Interpreter | None = None

    def start(self, raw: bool) -> None:
        """Start an interpreter."""
        self.interpreter = self.run(raw)
        self.to_client.source = self.to_board.sink = self.interpreter.master
        self.to_board.moved = 0

    def restart(self) -> None:
        """Start a new interpreter after a soft reset or a crash."""
        assert self.interpreter
        status = self.interpreter.stop()
        if status not in (EXIT_FRIENDLY, EXIT_RAW):
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            if not self.to_board.moved:
                raise Failure(f"{self.program} ended with {name} before its first input")
            # In the raw REPL's framing of errors, so that a waiting mpremote reports it and continues.
            self.to_client.pending += f"\r\n\x04MicroPython ended with {name}\r\n\x04".encode()
        self.to_client.pending += b"MPY: soft reboot\r\n"
        self.start(raw=status == EXIT_RAW)

    def serve(self, parent: int | None = None) -> None:
        """Copy bytes both ways until the descriptor `parent`, if given, reaches end of file. Call `start` first."""
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
        """Terminate the interpreter."""
        if self.interpreter:
            self.interpreter.stop()
