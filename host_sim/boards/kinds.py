# SPDX-License-Identifier: MIT
"""The kinds of virtual board: names, firmware, and how their interpreters start. Add a new kind here."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from host_sim.boards import esp32s3, qemu, unix
from host_sim.boards.interpreter import Interpreter
from host_sim.setup.shell import Failure
from host_sim.setup.sizes import parse_size

UNIX, QEMU, ESP32S3 = "unix", "qemu", "esp32s3"
# Kind -> its description for users.
KINDS = {UNIX: "unix port", QEMU: "Cortex-M7 in QEMU", ESP32S3: "ESP32-S3 in Espressif's QEMU"}
HEAP = "8M"

Start = Callable[[bool], Interpreter]  # starts an interpreter; argument: whether at the raw REPL


def firmware_of(kind: str) -> Path:
    """Build the firmware of this kind of board unless it is up to date; returns its file."""
    return {UNIX: unix.firmware, QEMU: qemu.firmware, ESP32S3: esp32s3.firmware}[kind]()


@contextlib.contextmanager
def interpreters(kind: str, program: Path, flash: Path, heap: str) -> Iterator[Start]:
    """A function that starts interpreters of `program` on a board of this kind, with a directory as its flash."""
    if kind == QEMU:
        with qemu.image_file(flash) as image:
            command = qemu.command(program, image, qemu.heap_bytes(heap))
            yield lambda raw: qemu.Emulator(command)
    elif kind == ESP32S3:
        if heap != HEAP:
            raise Failure(f"--heap {heap}: the ESP32-S3's heap size is not adjustable: omit --heap")
        with esp32s3.flash_files(program, flash) as (flash_image, efuse):
            emulated = esp32s3.command(esp32s3.emulator(), flash_image, efuse)
            yield lambda raw: esp32s3.Emulator(emulated)
    else:
        if not parse_size(heap):
            raise Failure(f"--heap {heap}: must be a size like 160K or 8M")
        yield lambda raw: unix.UnixInterpreter(program, flash, heap, raw)
