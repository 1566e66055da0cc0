# SPDX-License-Identifier: MIT
"""The virtual board of kind "esp32s3": the firmware of an ESP32-S3 board in Espressif's QEMU, where that is on PATH.

    python -m host_sim.boards serve esp32s3 FIRMWARE

FIRMWARE is a firmware.bin (host_sim/esp32/firmware.py); the default is the only one built. The partition `romfs` holds
a ROMFS image of a directory, which MicroPython mounts at /rom; data written to the other partitions lasts until the
board ends. Debian's QEMU has no such machine; ESP-IDF installs one that does: `idf_tools.py install qemu-xtensa`.

This was written from the command line of ESP-IDF's `idf.py qemu` and is tested with a stand-in that takes the same
arguments: no emulator of the chip was available. Published emulators compute some PIE instructions wrongly
(espressif/qemu, issues 161 and 162), so a board starts with firmware/selfcheck.py.
"""

import contextlib
import functools
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_sim.boards import qemu
from host_sim.boards.copies import copies
from host_sim.boards.server import Server
from host_sim.esp32 import partitions
from host_sim.esp32.firmware import built
from host_sim.setup.apt import XTENSA_EMULATOR
from host_sim.setup.shell import ROOT, Failure

MACHINE = "esp32s3"
PSRAM = "8M"  # of both boards, octal
IMAGE_MAGIC = 0xE9
FLASH_SIZES = [size << 20 for size in (2, 4, 8, 16)]  # the sizes that QEMU accepts
# Bytes of the chip's fuses, offset and value of the byte for revision 0.3. All other fuses are unprogrammed.
EFUSE, REVISION = 1024, (38, 0x0C)
PROMPT = b">>> "
BOOT = 60.0  # seconds from power-on to the prompt
CHECK = 300.0  # seconds for firmware/selfcheck.py


@functools.cache
def emulator() -> str:
    """The first qemu-system-xtensa on PATH that emulates the ESP32-S3; a Failure names those that do not."""
    there = []
    for folder in os.get_exec_path():
        path = Path(folder) / XTENSA_EMULATOR
        if os.access(path, os.X_OK):
            there.append(str(path))
            done = subprocess.run([path, "-machine", "help"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if re.search(rf"^{MACHINE}\b", done.stdout, re.MULTILINE):
                return str(path)
    found = f"{', '.join(there)} has no machine {MACHINE}" if there else f"there is no {XTENSA_EMULATOR}"
    raise Failure(f"Espressif's QEMU is not on PATH: {found}; to install it: idf_tools.py install qemu-xtensa")


def firmware() -> Path:
    """The firmware.bin that ESP32S3_FIRMWARE names, or the only one built."""
    given = os.environ.get("ESP32S3_FIRMWARE")
    return Path(given) if given else built(None)


def flash_image(program: Path, files: bytes) -> bytes:
    """The content of flash: a firmware.bin and, in its partition `romfs`, a ROMFS image."""
    try:
        image = program.read_bytes()
    except OSError as error:
        raise Failure(f"{program}: {error.strerror}") from None
    if not image or image[0] != IMAGE_MAGIC:
        raise Failure(f"{program}: not a firmware.bin of an ESP32-S3: it must begin with byte {IMAGE_MAGIC:#x}")
    table = partitions.of_image(image, str(program))
    place = partitions.named(table, "romfs", str(program))
    if len(files) > place.size:
        raise Failure(f"the files for /rom need {len(files):,} bytes, the partition romfs has {place.size:,}")
    end = max(len(image), *(each.offset + each.size for each in table))
    size = next((size for size in FLASH_SIZES if size >= end), None)
    if size is None:
        raise Failure(f"{program}: its partitions end at {end:#x}, beyond the {FLASH_SIZES[-1] >> 20} MB that QEMU has")
    whole = bytearray(b"\xff" * size)
    whole[: len(image)] = image
    whole[place.offset : place.offset + len(files)] = files
    return bytes(whole)


@contextlib.contextmanager
def flash_files(program: Path, flash: Path) -> Iterator[tuple[Path, Path]]:
    """Images of flash, with a directory's files at /rom, and of the fuses, as files that go away afterwards."""
    with copies("esp32s3-") as folder:
        image, efuse = folder / "flash.bin", folder / "efuse.bin"
        image.write_bytes(flash_image(program, qemu.directory_image(flash)))
        fuses = bytearray(EFUSE)
        fuses[REVISION[0]] = REVISION[1]
        efuse.write_bytes(fuses)
        yield image, efuse


def command(program: str, image: Path, efuse: Path) -> list[str | Path]:
    """QEMU with a board's flash, fuses and PSRAM."""
    return [
        *(program, "-machine", MACHINE, "-m", PSRAM),
        *("-global", "driver=ssi_psram,property=is_octal,value=true"),
        *("-drive", f"file={image},if=mtd,format=raw"),
        *("-drive", f"file={efuse},if=none,format=raw,id=efuse"),
        # QEMU names this machine's fuses after another chip (espressif/qemu, QEMU-201).
        *("-global", "driver=nvram.esp32c3.efuse,property=drive,value=efuse"),
        # The watchdog would fire on a slow or suspended host.
        *("-global", f"driver=timer.{MACHINE}.timg,property=wdt_disable,value=true"),
    ]


class Emulator(qemu.Emulator):
    """A running QEMU whose MicroPython has reached its prompt: input sent earlier would be lost."""

    def __init__(self, command: Sequence[str | Path]):
        super().__init__(command)
        try:
            self.wait_for_prompt()
        except BaseException:
            self.stop()
            raise

    def wait_for_prompt(self) -> None:
        """Read the output of ROM, bootloader and MicroPython up to the prompt; a Failure quotes its last line."""
        said, deadline = b"", time.monotonic() + BOOT
        while not said.endswith(PROMPT):
            if time.monotonic() > deadline:
                raise Failure(f"no prompt within {BOOT:g} s of starting {XTENSA_EMULATOR}: {last_line(said)}")
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    said += os.read(self.master, 4096)
                except OSError:  # the other end is closed
                    status = self.process.wait()
                    raise Failure(f"{XTENSA_EMULATOR} ended with status {status}: {last_line(said)}") from None


def last_line(said: bytes) -> str:
    """The last line of a board's output, quoted."""
    lines = said.decode(errors="replace").split("\n")
    return next((repr(line.strip()) for line in reversed(lines) if line.strip()), "no output")


def self_check(server: Server) -> None:
    """Run firmware/selfcheck.py on a board before it is announced, and report the result on stderr."""
    script = ROOT / "firmware" / "selfcheck.py"
    ended, ending = os.pipe()
    with tempfile.TemporaryFile() as output:
        mpremote: list[str | Path] = [sys.executable, "-m", "mpremote", "connect", server.device, "run", script]
        # The pipe closes when the child ends, however it ends.
        child = subprocess.Popen(
            mpremote, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[ending]
        )
        os.close(ending)
        timer = threading.Timer(CHECK, child.kill)
        timer.start()
        try:
            server.serve(ended)
        finally:
            timer.cancel()
            child.kill()
            status = child.wait()
            os.close(ended)
        output.seek(0)
        said = output.read()
    for line in said.decode(errors="replace").splitlines() if status == 0 else ():
        print(f"self-check: {line}", file=sys.stderr)
    if status:
        reason = f"took longer than {CHECK:g} s" if status < 0 else last_line(said)
        print(
            f"warning: self-check failed, {reason}; if the numbers differ, this emulator's PIE is wrong"
            " (docs/board.md): compute with ternary.use('reference')",
            file=sys.stderr,
            flush=True,
        )
