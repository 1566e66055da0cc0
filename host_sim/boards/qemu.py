# SPDX-License-Identifier: MIT
"""The virtual board of kind "qemu": firmware/boards/QEMU_M7, a Cortex-M7 with 8 MB of heap and 8 MB of flash, in QEMU.

Its flash holds a ROMFS image of a directory, which MicroPython mounts at /rom and makes the current directory. It is
read-only; an image that `mpremote romfs deploy` writes over it lasts until a reset.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_sim.boards import unix
from host_sim.boards.copies import copies
from host_sim.boards.interpreter import Interpreter, end_with_parent, open_raw_terminal
from host_sim.setup.apt import ARM_EMULATOR, install_packages, missing_packages
from host_sim.setup.romfs import build_image, files_below
from host_sim.setup.shell import ROOT, Failure
from host_sim.setup.sizes import parse_size

BOARD = ROOT / "firmware" / "boards" / "QEMU_M7"
OUTPUT = unix.output("qemu")
MACHINE = "mps2-an500"
# As in firmware/boards/QEMU_M7/qemu_m7.ld.
PARAMETERS = 0x20000000
HEAP = 8 << 20
FLASH, FLASH_SIZE = 0x60800000, 8 << 20
# The REPL's own objects need this much.
SMALLEST_HEAP = 16 << 10


def firmware() -> Path:
    """Install the tools and build the firmware unless it is up to date; returns the ELF file."""
    install_packages(missing_packages("qemu"))
    options = (f"BOARD={BOARD.name}", f"BOARD_DIR={BOARD}", "FROZEN_MANIFEST=", "CFLAGS_EXTRA=-Wno-error")
    unix.build("qemu", OUTPUT, {"ternary": ROOT / "mpy_module"}, options, [BOARD / "mpconfigboard.mk"])
    return OUTPUT / "firmware.elf"


def heap_bytes(text: str) -> int:
    """The bytes of a size like 160K, in the unix port's notation; a Failure for a size that the board does not have."""
    size = parse_size(text)
    if size is None or not SMALLEST_HEAP <= size <= HEAP:
        raise Failure(f"--heap {text}: must be a size like 160K, from {SMALLEST_HEAP >> 10}K to {HEAP >> 20}M")
    return size


def directory_image(flash: Path) -> bytes:
    """A ROMFS image of a directory."""
    return build_image({path.relative_to(flash).as_posix(): path for path in files_below(flash)})


@contextlib.contextmanager
def image_file(flash: Path) -> Iterator[Path]:
    """A temporary file with a ROMFS image of a directory."""
    image = directory_image(flash)
    if len(image) > FLASH_SIZE:
        raise Failure(f"the image of {flash} needs {len(image):,} bytes, the board's flash has {FLASH_SIZE:,}")
    with copies("qemu-") as folder:
        path = folder / "flash.romfs"
        path.write_bytes(image)
        yield path


class Emulator(Interpreter):
    """A running QEMU and the terminal of its serial line. It ends with this process.

    command: QEMU and its arguments without those of the serial line.
    """

    def __init__(self, command: Sequence[str | Path]):
        self.master, slave = open_raw_terminal()
        # QEMU's own pty polls for a client once a second and drops earlier output.
        line = ("-chardev", "serial,id=line,path=/dev/stdin", "-serial", "chardev:line")
        self.process = subprocess.Popen(
            [*command, "-display", "none", "-monitor", "none", *line],
            stdin=slave,
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        os.close(slave)


def command(program: Path, image: Path, heap: int) -> list[str | Path]:
    """QEMU with this board's firmware, an image of its flash, and a heap size in bytes."""
    return [
        *(ARM_EMULATOR, "-machine", MACHINE, "-kernel", program),
        *("-device", f"loader,file={image},addr={FLASH:#x},force-raw=on"),
        *("-device", f"loader,addr={PARAMETERS:#x},data={heap:#x},data-len=4"),
    ]
