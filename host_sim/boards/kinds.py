# SPDX-License-Identifier: MIT
"""The kinds of virtual board: names, what they run, how their interpreters start. A new kind is added here."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from host_sim.boards import esp32s3, qemu, unix
from host_sim.boards.interpreter import Interpreter
from host_sim.setup.shell import Failure
from host_sim.setup.sizes import parse_size

UNIX, QEMU, ESP32S3 = "unix", "qemu", "esp32s3"
# Kind -> what people call it.
KINDS = {UNIX: "unix port", QEMU: "Cortex-M7 in QEMU", ESP32S3: "ESP32-S3 in Espressif's QEMU"}
HEAP = "8M"

Start = Callable[[bool], Interpreter]  # starts an interpreter, at the raw REPL or not


def firmware_of(kind: str) -> Path:
    """Build what a board of this kind runs, as far as it is out of date; returns the file."""
    return {UNIX: unix.firmware, QEMU: qemu.firmware, ESP32S3: esp32s3.firmware}[kind]()


@contextlib.contextmanager
def interpreters(kind: str, program: Path, flash: Path, heap: str) -> Iterator[Start]:
    """What starts interpreters of `program` on a board of this kind, with a directory as its flash."""
    if kind == QEMU:
        with qemu.image_file(flash) as image:
            command = qemu.command(program, image, qemu.heap_bytes(heap))
            yield lambda raw: qemu.Emulator(command)
    elif kind == ESP32S3:
        if heap != HEAP:
            raise Failure(f"--heap {heap}: the ESP32-S3's heap is what its memory leaves; leave it out")
        with esp32s3.flash_files(program, flash) as (flash_image, efuse):
            emulated = esp32s3.command(esp32s3.emulator(), flash_image, efuse)
            yield lambda raw: esp32s3.Emulator(emulated)
    else:
        if not parse_size(heap):
            raise Failure(f"--heap {heap}: must be a size like 160K or 8M")
        yield lambda raw: unix.UnixInterpreter(program, flash, heap, raw)
