# SPDX-License-Identifier: MIT
"""Stand-in for Espressif's QEMU in tests/host_sim/boards/test_esp32s3.py: its command line in front of the unix port.

It accepts the arguments that the real one needs and refuses others, finds the partition `romfs` in the flash image, and
serves its files at /rom. STAND_IN_PROGRAM: the unix port with our modules. STAND_IN_FAULT: "pie", a backend `pie` that
computes wrongly; "right pie", one that computes correctly; "psram", "boot" and "mute": startup faults.
"""

import argparse
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

START = """\
import os, sys, vfs
vfs.umount("/")
vfs.mount(vfs.VfsPosix({root!r}), "/")
os.chdir("/")
sys.path.append("/rom")
{extra}
del os, vfs
__import__("raw_repl").run({raw})
"""
BACKENDS = """
import ternary
class Backends:
    active = "pie"
    def __getattr__(self, name):
        return getattr(self.module, name)
    def use(self, name):
        if name not in ("pie", "reference"):
            raise ValueError("use: name is not one of pie, reference")
        self.active = name
    def residual_add(self, stream, y, shift):
        self.module.residual_add(stream, y, shift)
        if self.wrong and self.active == "pie":
            stream[0] += 1
backends = Backends()
backends.module, backends.wrong = ternary, {wrong}
sys.modules["ternary"] = backends
del ternary
"""
EXIT_FRIENDLY, EXIT_RAW = 64, 65
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def fail(text: str) -> None:
    """End as QEMU does."""
    sys.exit(f"qemu-system-xtensa: {text}")


def options(text: str) -> dict[str, str]:
    """Options as QEMU writes them: name=value,name=value."""
    return dict(part.partition("=")[::2] for part in text.split(","))


def parse() -> tuple[Path, bytes]:
    """The image of flash, and the fuses, of a command line that a real QEMU takes."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("-machine", "-m", "-display", "-monitor", "-chardev", "-serial"):
        parser.add_argument(name)
    for name in ("-global", "-drive"):
        parser.add_argument(name, action="append", default=[])
    given = vars(parser.parse_args())
    wanted = {"machine": "esp32s3", "m": "8M", "display": "none", "monitor": "none", "serial": "chardev:line"}
    for name, value in wanted.items():
        if given[name] != value:
            fail(f"-{name} {given[name]}: not {value}")
    line = options(given["chardev"])
    if "serial" not in line or line["id"] != "line":
        fail(f"-chardev {given['chardev']}")
    properties = [(each["driver"], each["property"], each["value"]) for each in map(options, given["global"])]
    if os.environ.get("STAND_IN_FAULT") == "psram":
        fail("Property 'ssi_psram.is_octal' not found")
    assert ("ssi_psram", "is_octal", "true") in properties
    [efuse] = [value for driver, name, value in properties if driver.endswith(".efuse") and name == "drive"]
    drives = list(map(options, given["drive"]))
    [flash] = [each for each in drives if each["if"] == "mtd"]
    [fuses] = [each for each in drives if each.get("id") == efuse and each["if"] == "none"]
    assert all(each["format"] == "raw" for each in drives)
    os.dup2(os.open(line["path"], os.O_RDWR), 0)
    return Path(flash["file"]), Path(fuses["file"]).read_bytes()


def rom_files(flash: Path, folder: Path) -> None:
    """Write the files of the partition `romfs` to a folder."""
    sys.path.insert(0, os.environ["STAND_IN_ROOT"])
    from host_sim.setup.romfs import image_files

    image = flash.read_bytes()
    if len(image) not in (2 << 20, 4 << 20, 8 << 20, 16 << 20):
        fail(f"only 2, 4, 8, 16 MB flash images are supported, not {len(image)} bytes")
    assert image[0] == 0xE9
    for number in range(95):
        magic, _, _, offset, size, name = struct.unpack_from("<HBBII16s", image, 0x8000 + 32 * number)
        assert magic == 0x50AA, "no partition romfs"
        if name.rstrip(b"\0") == b"romfs":
            break
    part = image[offset : offset + size]
    for path, (at, length) in image_files(part).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(part[at : at + length])


def terminal() -> None:
    """Make the serial line the controlling terminal, whose Ctrl-C the unix port turns into KeyboardInterrupt.

    What runs on it ends with this process, as a chip does with its emulator.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 1)


def boot(root: Path) -> None:
    """Run one interpreter after another, as MicroPython's soft resets do."""
    fault, raw = os.environ.get("STAND_IN_FAULT", ""), False
    if fault == "mute":
        time.sleep(600)
    os.write(1, b"ESP-ROM:esp32s3-20210327\r\nI (24) boot: ESP-IDF v5.5.1 2nd stage bootloader\r\n")
    if fault == "boot":
        sys.exit(7)
    # Input that arrives before the UART is set up is lost.
    time.sleep(0.3)
    termios.tcflush(0, termios.TCIFLUSH)
    extra = BACKENDS.format(wrong=fault == "pie") if fault.endswith("pie") else ""
    while True:
        start = START.format(root=str(root), extra=extra, raw=raw)
        program = [os.environ["STAND_IN_PROGRAM"], "-X", "heapsize=8M", "-c", start]
        status = subprocess.Popen(
            program, cwd=root, env=os.environ | {"MICROPYPATH": "/lib"}, preexec_fn=terminal
        ).wait()
        if status not in (EXIT_FRIENDLY, EXIT_RAW):
            sys.exit(1)
        os.write(1, b"MPY: soft reboot\r\n")
        raw = status == EXIT_RAW


def main() -> None:
    """Command line."""
    if sys.argv[1:] == ["-machine", "help"]:
        print("Supported machines are:\nesp32                Espressif ESP32 machine")
        print("esp32s3              Espressif ESP32S3 machine\nnone                 empty machine")
        return
    flash, fuses = parse()
    assert len(fuses) == 1024
    os.dup2(0, 1)
    with tempfile.TemporaryDirectory() as root:
        rom_files(flash, Path(root) / "rom")
        boot(Path(root))


if __name__ == "__main__":
    main()
