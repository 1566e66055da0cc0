# SPDX-License-Identifier: MIT
"""Lists boards on USB and this tree's virtual boards, with their firmware and models.

    python -m host_sim.boards.list [PORTS] [--interrupt]

Each board is queried over MicroPython's raw REPL, without a soft reset, with a timeout of 2 s in all. A running program
is interrupted only with --interrupt.
"""

import argparse
import ast
import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from host_sim.setup.shell import BUILD, hold, idle, one_line_errors

RUNNING = BUILD / "board"
SECONDS = 2.0
# A board's UART buffers 256 bytes and has no flow control (mpremote pauses likewise).
CHUNK, PAUSE = 256, 0.01
BANNER = b"raw REPL; CTRL-B to exit\r\n>"
INTERRUPT, TO_RAW, TO_FRIENDLY, END = b"\x03", b"\x01", b"\x02", b"\x04"

# Runs on the board and leaves no name behind. The error for an unknown backend lists the known ones.
QUESTION = """\
def _ask():
 import sys, os
 i = sys.implementation
 r = {"name": i.name, "version": ".".join(str(n) for n in i.version[:3])}
 r["machine"] = getattr(i, "_machine", sys.platform)
 try: r["build"] = os.uname().version
 except AttributeError: pass
 try:
  import ternary
  r["backends"] = ""
  ternary.use("")
 except (ImportError, AttributeError): pass
 except ValueError as e: r["backends"] = str(e).split(" one of ")[-1]
 r["models"] = m = []
 for d in {"/rom", "/rom/models", "/models", os.getcwd().rstrip("/") + "/models"}:
  try: names = os.listdir(d)
  except OSError: continue
  m.extend((d + "/" + n, os.stat(d + "/" + n)[6]) for n in names if n.endswith(".safetensors"))
 print(r)
_ask()
del _ask
"""


class NoAnswer(Exception):
    """A port did not answer; the message gives the reason in a few words."""


class Port(NamedTuple):
    """A serial port that may belong to a board."""

    device: str
    what: str


@contextlib.contextmanager
def announced(device: str, what: str) -> Iterator[None]:
    """Make this process's board visible to `virtual_boards` for the duration of the block, however it ends."""
    RUNNING.mkdir(parents=True, exist_ok=True)
    path = RUNNING / f"{os.getpid()}.json"
    with hold(path, tools=False) as file:  # a file that nobody holds is stale
        json.dump({"device": device, "what": what}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def virtual_boards() -> list[Port]:
    """The running virtual boards; stale files of others are removed."""
    found = []
    for path in sorted(RUNNING.glob("*.json")):
        with contextlib.suppress(OSError, ValueError), idle(path) as stale:
            if stale:
                path.unlink(missing_ok=True)
            else:
                state = json.loads(path.read_text())
                found.append(Port(state["device"], state["what"]))
    return found


class RawRepl:
    """A board's raw REPL, entered without a soft reset; one deadline covers the whole exchange."""

    def __init__(self, device: str, interrupt: bool = False):
        import serial

        self.deadline = time.monotonic() + SECONDS
        try:
            self.port = serial.Serial(device, 115200, timeout=0.02, write_timeout=SECONDS, exclusive=True)
        except OSError as error:
            raise NoAnswer(why_not_open(error)) from None
        self.interrupt, self.unread = interrupt, b""

    def __enter__(self) -> "RawRepl":
        try:
            self.port.reset_input_buffer()
            self.write(b"\r" + INTERRUPT * self.interrupt + TO_RAW)
            stop = "" if self.interrupt else " (--interrupt stops it)"
            self.read_until(BANNER, f"it is running a program{stop} or is not MicroPython")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Return to the friendly REPL, and clear RTS before DTR: the opposite order resets some boards."""
        with contextlib.suppress(OSError):
            self.port.write(b"\r" + TO_FRIENDLY)
        with contextlib.suppress(OSError):
            self.port.rts = False
            self.port.dtr = False
        self.port.close()

    def write(self, data: bytes) -> None:
        """Send bytes in chunks that fit a board's UART buffer."""
        for start in range(0, len(data), CHUNK):
            try:
                self.port.write(data[start : start + CHUNK])
            except OSError as error:
                raise NoAnswer(f"stopped answering: {error}") from None
            time.sleep(PAUSE)

    def read_until(self, ending: bytes, otherwise: str) -> bytes:
        """The bytes received before `ending`; NoAnswer gives `otherwise` as the possible cause of a timeout."""
        while ending not in self.unread:
            if time.monotonic() > self.deadline:
                raise NoAnswer(f"no answer within {SECONDS:g} s: {otherwise}")
            try:
                self.unread += self.port.read(max(1, self.port.in_waiting))
            except OSError as error:
                raise NoAnswer(f"stopped answering: {error}") from None
        before, _, self.unread = self.unread.partition(ending)
        return before

    def run(self, code: str) -> str:
        """Run a program; returns its output."""
        self.write(code.encode() + END)
        slow = "the prompt came but no answer"
        self.read_until(b"OK", slow)
        output, error = self.read_until(END, slow), self.read_until(END, slow)
        if error:
            raise NoAnswer(f"the query failed: {error.decode(errors='replace').strip().splitlines()[-1]}")
        return output.decode(errors="replace")


def why_not_open(error: OSError) -> str:
    """Why a port cannot be opened."""
    number = error.errno
    # pyserial passes on flock's error; some versions drop its errno.
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return "busy: another program has it open"
    if number == errno.EACCES:
        return "no permission to open it: your user must be in its group, often dialout"
    if number == errno.ENOENT:
        return "no such port"
    return f"cannot be opened: {error}"


def ask(device: str, interrupt: bool = False) -> dict:
    """A board's answer: name, version, machine, build, models [(path, bytes)], and backends if it has `ternary`.

    Raises NoAnswer.
    """
    with RawRepl(device, interrupt) as repl:
        text = repl.run(QUESTION)
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise NoAnswer(f"unexpected answer: {text.strip()[:60]!r}") from None


def describe(answer: dict) -> list[str]:
    """A board's answer as lines of text."""
    build = f", {answer['build']}" if "build" in answer else ""
    lines = [f"{answer['name']} {answer['version']}, {answer['machine']}{build}"]
    if "backends" in answer:
        lines.append(f"ternary: {answer['backends'] or 'an older version, flash this tree'}")
    else:
        lines.append("no module ternary: this firmware cannot run models")
    lines += [f"model: {path}, {size:,} bytes" for path, size in sorted(answer["models"])]
    if not answer["models"]:
        lines.append("no model in /rom, /models or models")
    return lines


def serial_ports() -> tuple[list[Port], list[Port]]:
    """Ports on USB, which are queried, and all others, which are only listed."""
    from serial.tools import list_ports

    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    usb = [Port(port.device, port.description or "USB") for port in ports if port.vid is not None]
    return usb, [Port(port.device, "not on USB") for port in ports if port.vid is None]


def show(port: Port, interrupt: bool) -> None:
    """Query a port and print the result."""
    print(f"{port.device} ({port.what})" if port.what else port.device, flush=True)
    try:
        lines = describe(ask(port.device, interrupt))
    except NoAnswer as reason:
        lines = [str(reason)]
    for line in lines:
        print(f"    {line}", flush=True)


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="just boards", description="List boards with their firmware and models.")
    parser.add_argument("ports", nargs="*", metavar="PORTS", help="(default: all USB ports and virtual boards)")
    parser.add_argument("--interrupt", action="store_true", help="interrupt a running program")
    arguments = parser.parse_args()
    if arguments.ports:
        asked, others = [Port(device, "") for device in arguments.ports], list[Port]()
    else:
        usb, others = serial_ports()
        asked = usb + virtual_boards()
    for port in asked:
        show(port, arguments.interrupt)
    for port in others:
        print(f"{port.device} ({port.what}): not queried; to query it: just boards {port.device}")
    if not asked:
        print("no boards: plug one in, or start a virtual one with `just board`")


if __name__ == "__main__":
    sys.exit(main())
