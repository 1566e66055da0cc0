# SPDX-License-Identifier: MIT
"""The virtual boards: MicroPython behind a pseudo-terminal, so that mpremote sees a board.

    python host_sim/board.py serve [KIND]   print the device's path, then serve it until Ctrl-C
    python host_sim/board.py demo [KIND]    run firmware/classify.py on a board through mpremote

    with Board(kind="unix") as board:       the same from Python, in a process of its own
        board.mpremote("run", "firmware/classify.py")

KIND is unix, MicroPython's unix port; qemu, a Cortex-M7 in QEMU (host_sim/qemu_board.py); or esp32s3, the firmware of
an ESP32-S3 in Espressif's QEMU, where that is on PATH (host_sim/esp32s3_board.py). The flash of the unix board is a
directory that MicroPython sees as its root. A soft reset ends its interpreter, and the server starts a new one in its
place.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from host_sim.boards.list import announced
from host_sim.boards.unix import firmware, source
from host_sim.setup import mpy
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors

# What a board's flash holds out of firmware/, besides the package.
FLASH_CONTENTS = ("models", "images")
# Kinds of board, and what people call them.
UNIX = "unix"
KINDS = {"unix": "unix port", "qemu": "Cortex-M7 in QEMU", "esp32s3": "ESP32-S3 in Espressif's QEMU"}
HEAP = "8M"
# Bytes kept for a side that does not read; beyond them the other side waits, so that nothing is lost.
PENDING = 1 << 16
# Exit status of the interpreter after a soft reset, by the REPL it was in (host_sim/raw_repl/raw_repl.c).
EXIT_FRIENDLY = 64
EXIT_RAW = 65
PR_SET_PDEATHSIG = 1  # linux/prctl.h

START = """\
import os, vfs
vfs.umount("/")
vfs.mount(vfs.VfsPosix({flash!r}), "/")
os.chdir("/")
del os, vfs
__import__("raw_repl").run({raw})
"""


def fill_flash(flash: Path) -> None:
    """Copy the package, as bytecode, the models and the pictures to the board's flash."""
    flash.mkdir(parents=True, exist_ok=True)
    for name in FLASH_CONTENTS:
        origin = ROOT / "firmware" / name
        if origin.is_dir():
            shutil.copytree(origin, flash / name, dirs_exist_ok=True)
    for name, data in mpy.package(mpy.version_of_source(source())).items():
        path = flash / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".py").unlink(missing_ok=True)  # an older copy, which MicroPython would prefer


def open_raw_terminal() -> tuple[int, int]:
    """A new pseudo-terminal that passes every byte unchanged; returns master and slave."""
    master, slave = os.openpty()
    tty.setraw(slave)
    attributes = termios.tcgetattr(slave)
    # raw_repl.c turns signals on while a program runs: Ctrl-C must be the only one.
    for key in (termios.VQUIT, termios.VSUSP):
        attributes[6][key] = os.fpathconf(slave, "PC_VDISABLE").to_bytes()
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.set_blocking(master, False)
    return master, slave


class Interpreter:
    """A running MicroPython and its terminal. Closing the terminal's master end ends it, whatever it does."""

    def __init__(self, program: Path, flash: Path, heap: str, raw: bool):
        self.master, slave = open_raw_terminal()
        start = START.format(flash=str(flash), raw=raw)
        environment = os.environ | {"MICROPYPATH": "/lib"}
        self.process = subprocess.Popen(
            [program, "-X", f"heapsize={heap}", "-c", start],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=flash,
            env=environment,
            preexec_fn=lambda: os.login_tty(os.dup(slave)),
        )
        os.close(slave)

    def stop(self) -> int:
        """End it if it still runs; returns its exit status."""
        os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()


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


@contextlib.contextmanager
def flash_directory(flash: Path | None) -> Iterator[Path]:
    """The filled flash directory: the given one, or a new one that goes away afterwards."""
    if flash:
        flash = flash.resolve()
        fill_flash(flash)
        yield flash
        return
    (BUILD / "board").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD / "board", ignore_cleanup_errors=True) as directory:
        fill_flash(Path(directory))
        yield Path(directory)


def firmware_of(kind: str) -> Path:
    """Build what a board of this kind runs, as far as it is out of date; returns the file."""
    if kind == "qemu":
        from host_sim.boards import qemu as qemu_board

        return qemu_board.firmware()
    if kind == "esp32s3":
        from host_sim.boards import esp32s3 as esp32s3_board

        return esp32s3_board.firmware()
    return firmware()


@contextlib.contextmanager
def interpreters(kind: str, program: Path, flash: Path, heap: str) -> Iterator[Callable[[bool], Interpreter]]:
    """What starts interpreters on a board of this kind (Server)."""
    if kind == "qemu":
        from host_sim.boards import qemu as qemu_board

        with qemu_board.image_file(flash) as image:
            size = qemu_board.heap_bytes(heap)
            yield lambda raw: qemu_board.Emulator(qemu_board.command(program, image, size))
    elif kind == "esp32s3":
        from host_sim.boards import esp32s3 as esp32s3_board

        if heap != HEAP:
            raise Failure(f"--heap {heap}: the ESP32-S3's heap is what its memory leaves; leave it out")
        with esp32s3_board.flash_files(program, flash) as (image, efuse):
            command = esp32s3_board.command(esp32s3_board.emulator(), image, efuse)
            yield lambda raw: esp32s3_board.Emulator(command)
    else:
        yield lambda raw: Interpreter(program, flash, heap, raw)


def end_with_parent() -> None:
    """Let Linux send SIGTERM when the parent ends: `just` does not pass signals on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def serve(arguments: argparse.Namespace) -> None:
    """Serve a board, with its device's path as the first line of output."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    # A shell's background jobs start with SIGINT ignored, and so would the interpreters.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.with_parent:
        end_with_parent()
    if arguments.firmware and arguments.kind != "esp32s3":
        raise Failure(f"{arguments.firmware}: a firmware is for kind esp32s3 only; --program names another MicroPython")
    program = arguments.firmware or arguments.program or firmware_of(arguments.kind)
    with flash_directory(arguments.flash) as flash, interpreters(arguments.kind, program, flash, arguments.heap) as run:
        server = Server(program, run)
        try:
            server.start(raw=False)
            if arguments.kind == "esp32s3" and not arguments.unchecked:
                from host_sim.boards import esp32s3 as esp32s3_board

                esp32s3_board.self_check(server)
            with contextlib.suppress(KeyboardInterrupt), announced(server.device, f"virtual, {KINDS[arguments.kind]}"):
                print(server.device, flush=True)
                if sys.stderr.isatty():
                    print(f"try: .venv/bin/mpremote connect {server.device} repl", file=sys.stderr)
                server.serve(sys.stdin.fileno() if arguments.until_eof else None)
        finally:
            server.stop()


class Board:
    """A virtual board in a process of its own, for as long as the `with` block lasts.

    `path` is its device and `process` the serving process. `flash` is a directory to be the board's root (of kind
    "qemu": to be found at /rom, as it is at the start); without one it is new and goes away at the end. Either way
    firmware/'s package, models and images are copied into it. `unchecked` leaves out the check of the emulator that
    begins kind "esp32s3".
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
        command: list[str | Path] = [
            sys.executable,
            Path(__file__),
            "serve",
            self.kind,
            "--until-eof",
            "--heap",
            self.heap,
        ]
        command += ["--program", program, *(["--unchecked"] if self.unchecked else [])]
        if self.flash:
            command += ["--flash", self.flash]
        # The pipe is closed with this process, however it ends, and the server ends with the pipe.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
    """Run a command and show its output line by line; returns its status and its output."""
    output = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        for line in process.stdout or ():
            output += line
            sys.stdout.buffer.write(line.replace(b"\r\n", b"\n"))
            sys.stdout.buffer.flush()
    return process.returncode, output.decode(errors="replace")


def demo(arguments: argparse.Namespace) -> None:
    """Classify the ten pictures on a board and write build/demo.json."""
    script = ROOT / "firmware" / "classify.py"
    if not script.is_file():
        raise Failure(f"{script.relative_to(ROOT)} is missing")
    with Board(kind=arguments.kind) as board:
        status, output = stream(board.command("run", script))
    if status:
        raise Failure("firmware/classify.py failed on the virtual board: its output stands above")
    counts = re.findall(r"(\d+) of (\d+) right", output)
    if not counts:
        raise Failure("firmware/classify.py did not end with a line like '9 of 10 right'")
    right, of = map(int, counts[-1])
    result = {"right": right, "of": of, "board": arguments.kind}
    (BUILD / "demo.json").write_text(json.dumps(result) + "\n")


@one_line_errors
def main() -> None:
    """Command line."""
    kind: dict[str, Any] = {"nargs": "?", "choices": list(KINDS), "default": UNIX, "metavar": "KIND"}
    parser = argparse.ArgumentParser(description="A virtual board for mpremote. KIND: " + " or ".join(KINDS))
    parser.set_defaults(run=serve, flash=None, heap=HEAP, kind=UNIX, program=None, until_eof=False, with_parent=False)
    parser.set_defaults(unchecked=False, firmware=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    server = commands.add_parser("serve", help="print the device's path and serve it (default)")
    server.add_argument("kind", **kind)
    server.add_argument("firmware", nargs="?", type=Path, metavar="FIRMWARE", help="of esp32s3: its firmware.bin")
    server.add_argument("--flash", type=Path, metavar="DIR", help="keep the board's files in DIR")
    server.add_argument("--heap", default=HEAP, metavar="SIZE", help=f"MicroPython's heap (default {HEAP})")
    server.add_argument("--program", type=Path, metavar="FILE", help="use this build of MicroPython")
    server.add_argument("--unchecked", action="store_true", help="of esp32s3: do not check the emulator first")
    server.add_argument("--with-parent", action="store_true", help="end when the process that started it does")
    server.add_argument("--until-eof", action="store_true", help="end when standard input does")
    demonstration = commands.add_parser("demo", help="run firmware/classify.py")
    demonstration.add_argument("kind", **kind | {"choices": ["unix", "qemu"]})
    demonstration.set_defaults(run=demo)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
