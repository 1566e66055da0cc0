# SPDX-License-Identifier: MIT
"""Command line of the virtual boards: MicroPython behind a pseudo-terminal that mpremote treats as a board.

    python -m host_sim.boards serve [KIND]   print the device's path, then serve it until Ctrl-C
    python -m host_sim.boards demo [KIND]    run firmware/classify.py on a board through mpremote

KIND is unix, MicroPython's unix port; qemu, a Cortex-M7 in QEMU; or esp32s3, the firmware of an ESP32-S3 in Espressif's
QEMU, where that is on PATH.
"""

import argparse
import contextlib
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

from host_sim.boards import esp32s3, kinds
from host_sim.boards.client import Board, stream
from host_sim.boards.flash import flash_directory
from host_sim.boards.interpreter import end_with_parent
from host_sim.boards.list import announced
from host_sim.boards.server import Server
from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import BUILD, ROOT, Failure, one_line_errors


def serve(arguments: argparse.Namespace) -> None:
    """Serve a board; the first line of output is the path of its device."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    # Shells start background jobs with SIGINT ignored, and interpreters would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if arguments.with_parent:
        end_with_parent()
    if arguments.firmware and arguments.kind != kinds.ESP32S3:
        raise Failure(f"{arguments.firmware}: a firmware is for kind esp32s3 only; --program names another MicroPython")
    program = arguments.firmware or arguments.program or kinds.firmware_of(arguments.kind)
    kind, heap = arguments.kind, arguments.heap
    with flash_directory(arguments.flash) as flash, kinds.interpreters(kind, program, flash, heap) as run:
        server = Server(program, run)
        try:
            server.start(raw=False)
            if kind == kinds.ESP32S3 and not arguments.unchecked:
                esp32s3.self_check(server)
            with (
                contextlib.suppress(KeyboardInterrupt),
                announced(server.device, f"virtual, {kinds.KINDS[kind]}"),
            ):
                print(server.device, flush=True)
                if sys.stderr.isatty():
                    print(f"try: .venv/bin/mpremote connect {server.device} repl", file=sys.stderr)
                server.serve(sys.stdin.fileno() if arguments.until_eof else None)
        finally:
            server.stop()


def demo(arguments: argparse.Namespace) -> None:
    """Classify the ten test pictures on a board and write build/demo.json."""
    script = ROOT / "firmware" / "classify.py"
    if not script.is_file():
        raise Failure(f"{script.relative_to(ROOT)} is missing")
    with Board(kind=arguments.kind) as board:
        status, output = stream(board.command("run", script))
    if status:
        raise Failure("firmware/classify.py failed on the virtual board: see its output above")
    counts = re.findall(r"(\d+) of (\d+) right", output)
    if not counts:
        raise Failure("firmware/classify.py did not end with a line like '9 of 10 right'")
    right, of = map(int, counts[-1])
    result = {"right": right, "of": of, "board": arguments.kind}
    write_whole(BUILD / "demo.json", json.dumps(result) + "\n")


@one_line_errors
def main() -> None:
    """Command line."""
    kind: dict[str, Any] = {"nargs": "?", "choices": list(kinds.KINDS), "default": kinds.UNIX, "metavar": "KIND"}
    parser = argparse.ArgumentParser(
        prog="python -m host_sim.boards", description="A virtual board for mpremote. KIND: " + " or ".join(kinds.KINDS)
    )
    parser.set_defaults(
        run=serve, flash=None, heap=kinds.HEAP, kind=kinds.UNIX, program=None, until_eof=False, with_parent=False
    )
    parser.set_defaults(unchecked=False, firmware=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    server = commands.add_parser("serve", prog="just board", help="print the device's path and serve it (default)")
    server.add_argument("kind", **kind)
    server.add_argument("firmware", nargs="?", type=Path, metavar="FIRMWARE", help="esp32s3 only: its firmware.bin")
    server.add_argument("--flash", type=Path, metavar="DIR", help="keep the board's files in DIR")
    server.add_argument("--heap", default=kinds.HEAP, metavar="SIZE", help=f"MicroPython's heap (default {kinds.HEAP})")
    server.add_argument("--program", type=Path, metavar="FILE", help="use this build of MicroPython")
    server.add_argument("--unchecked", action="store_true", help="esp32s3 only: skip the emulator's self-check")
    server.add_argument("--with-parent", action="store_true", help="end when the parent process ends")
    server.add_argument("--until-eof", action="store_true", help="end at the end of standard input")
    demonstration = commands.add_parser("demo", prog="just demo", help="run firmware/classify.py")
    demonstration.add_argument("kind", **kind | {"choices": [kinds.UNIX, kinds.QEMU]})
    demonstration.set_defaults(run=demo)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
