# SPDX-License-Identifier: MIT
"""Lists boards, those on USB and the virtual ones of this tree, with the firmware and the models that they carry.

    python -m host_sim.boards.list [PORTS] [--interrupt]

Each is asked over MicroPython's raw REPL, without a soft reset, and has 2 s in all. A board that runs a program is
left alone unless --interrupt says otherwise.
"""

import argparse
import ast
import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from host_sim.setup.shell import BUILD, one_line_errors

RUNNING = BUILD / "board"
SECONDS = 2.0
# A board's UART has room for 256 bytes and no flow control (mpremote pauses likewise).
CHUNK, PAUSE = 256, 0.01
BANNER = b"raw REPL; CTRL-B to exit\r\n>"
INTERRUPT, TO_RAW, TO_FRIENDLY, END = b"\x03", b"\x01", b"\x02", b"\x04"

# Runs on the board and leaves no name behind. The error for an unknown backend lists those that there are.
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
    """Why a port does not say what it carries, in a few words."""


class Port(NamedTuple):
    """A place where a board may be."""

    device: str
    what: str


@contextlib.contextmanager
def announced(device: str, what: str) -> Iterator[None]:
    """Let `virtual_boards` find this process' board while the block lasts, and no longer, however it ends."""
    RUNNING.mkdir(parents=True, exist_ok=True)
    path = RUNNING / f"{os.getpid()}.json"
    with open(path, "w") as file:
        # Linux frees the lock with the process: a file without a lock is a leftover.
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"device": device, "what": what}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def virtual_boards() -> list[Port]:
    """The virtual boards that run now; what ended ones left is removed."""
    found = []
    for path in sorted(RUNNING.glob("*.json")):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                state = json.load(file)
                found.append(Port(state["device"], state["what"]))
            else:
                path.unlink(missing_ok=True)
    return found


class RawRepl:
    """A board's raw REPL, entered without a soft reset; all that happens ends by one deadline."""

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
            self.read_until(BANNER, f"it runs a program{stop}, or is no MicroPython")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the friendly prompt behind, and let RTS fall before DTR: the other way round resets some boards."""
        with contextlib.suppress(OSError):
            self.port.write(b"\r" + TO_FRIENDLY)
        with contextlib.suppress(OSError):
            self.port.rts = False
            self.port.dtr = False
        self.port.close()

    def write(self, data: bytes) -> None:
        """Send bytes in pieces that a board's UART can hold."""
        for start in range(0, len(data), CHUNK):
            try:
                self.port.write(data[start : start + CHUNK])
            except OSError as error:
                raise NoAnswer(f"stopped answering: {error}") from None
            time.sleep(PAUSE)

    def read_until(self, ending: bytes, otherwise: str) -> bytes:
        """What comes before `ending`; `otherwise` says why it may not have come in time."""
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
        """What a program prints."""
        self.write(code.encode() + END)
        slow = "its prompt came, its answer did not"
        self.read_until(b"OK", slow)
        output, error = self.read_until(END, slow), self.read_until(END, slow)
        if error:
            raise NoAnswer(f"cannot tell: {error.decode(errors='replace').strip().splitlines()[-1]}")
        return output.decode(errors="replace")


def why_not_open(error: OSError) -> str:
    """Why a port cannot be opened."""
    number = error.errno
    # pyserial passes on what flock says, without its number in some versions.
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return "busy: another program has it open"
    if number == errno.EACCES:
        return "no permission to open it: your user must be in its group, often dialout"
    if number == errno.ENOENT:
        return "there is no such port"
    return f"cannot be opened: {error}"


def ask(device: str, interrupt: bool = False) -> dict:
    """What a board says of itself: name, version, machine, build, models [(path, bytes)], backends if it has `ternary`.

    Raises NoAnswer.
    """
    with RawRepl(device, interrupt) as repl:
        text = repl.run(QUESTION)
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise NoAnswer(f"answered something else: {text.strip()[:60]!r}") from None


def describe(answer: dict) -> list[str]:
    """Lines about a board's answer."""
    build = f", {answer['build']}" if "build" in answer else ""
    lines = [f"{answer['name']} {answer['version']}, {answer['machine']}{build}"]
    if "backends" in answer:
        lines.append(f"ternary: {answer['backends'] or 'an older one, flash this tree'}")
    else:
        lines.append("no module ternary: this firmware runs no models")
    lines += [f"model: {path}, {size:,} bytes" for path, size in sorted(answer["models"])]
    if not answer["models"]:
        lines.append("no model in /rom, /models or models")
    return lines


def serial_ports() -> tuple[list[Port], list[Port]]:
    """Ports on USB, which are asked, and others, which may be anything and are only listed."""
    from serial.tools import list_ports

    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    usb = [Port(port.device, port.description or "USB") for port in ports if port.vid is not None]
    return usb, [Port(port.device, "not on USB") for port in ports if port.vid is None]


def show(port: Port, interrupt: bool) -> None:
    """Print what is at a port."""
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
    parser = argparse.ArgumentParser(prog="just boards", description="List boards and what they carry.")
    parser.add_argument("ports", nargs="*", metavar="PORTS", help="ask these (default: all on USB, all virtual ones)")
    parser.add_argument("--interrupt", action="store_true", help="stop a program that runs on a board")
    arguments = parser.parse_args()
    if arguments.ports:
        asked, others = [Port(device, "") for device in arguments.ports], list[Port]()
    else:
        usb, others = serial_ports()
        asked = usb + virtual_boards()
    for port in asked:
        show(port, arguments.interrupt)
    for port in others:
        print(f"{port.device} ({port.what}): not asked, `just boards {port.device}` does")
    if not asked:
        print("no boards: plug one in, or start a virtual one with `just board`")


if __name__ == "__main__":
    sys.exit(main())
