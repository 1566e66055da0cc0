# SPDX-License-Identifier: MIT
"""The board in Espressif's QEMU, with stand-ins for that QEMU (stand_in_qemu.py) and for the firmware.

These tests do not show how a real emulator takes the command line; test_server.py runs on one if it is on PATH.
"""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim.boards import esp32s3, kinds
from host_sim.boards.client import Board
from host_sim.esp32 import partitions
from host_sim.setup.romfs import build_image
from host_sim.setup.shell import BUILD, ROOT, Failure

STAND_IN = Path(__file__).with_name("stand_in_qemu.py")
TABLE = ROOT / "firmware" / "boards" / "FTERVIT_S3_N16R8" / "partitions.csv"
FLASH = 16 << 20


def table_entries() -> bytes:
    """The board's partition table as it stands in flash, written by hand from partitions.csv's columns."""
    kinds = {"app": 0, "data": 1}
    entries = b""
    for line in TABLE.read_text().splitlines():
        if not line.startswith("#"):
            name, kind, _, offset, size, _ = (field.strip() for field in line.split(","))
            entries += struct.pack("<HBBII16sI", 0x50AA, kinds[kind], 0, int(offset, 0), int(size, 0), name.encode(), 0)
    return entries


@pytest.fixture
def firmware(tmp_path):
    """A firmware.bin as it lies in flash: bootloader, partition table, application."""
    image = bytearray(b"\xff" * 0x10000)
    image[:4] = b"\xe9\3\2\x4f"
    entries = table_entries()
    image[0x8000 : 0x8000 + len(entries)] = entries
    path = tmp_path / "firmware.bin"
    path.write_bytes(bytes(image) + b"application" * 100)
    return path


@pytest.fixture
def qemu(tmp_path, monkeypatch, program):
    """The stand-in, after a qemu-system-xtensa on PATH that does not emulate the chip."""
    for folder, text in (
        ("debian", "#!/bin/sh\necho 'sim   sim machine (dc232b)'\n"),
        ("espressif", f"#!{sys.executable}\n{STAND_IN.read_text()}"),
    ):
        path = tmp_path / folder / "qemu-system-xtensa"
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/debian:{tmp_path}/espressif:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_PROGRAM", str(program))
    monkeypatch.setenv("STAND_IN_ROOT", str(ROOT))
    esp32s3.emulator.cache_clear()
    yield tmp_path
    esp32s3.emulator.cache_clear()


def test_flash_image(firmware):
    files = build_image({"mine.py": b"print('mine')\n"})
    image = esp32s3.flash_image(firmware, files)
    assert len(image) == FLASH
    assert image[: firmware.stat().st_size] == firmware.read_bytes()
    assert image[0x300000 : 0x300000 + len(files)] == files
    # The rest is erased.
    rest = image[firmware.stat().st_size : 0x300000] + image[0x300000 + len(files) :]
    assert rest.count(0xFF) == len(rest)


def test_tables_of_both_kinds_agree(firmware):
    assert partitions.of_image(firmware.read_bytes(), "image") == partitions.of_table(TABLE)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda image: b"\x7fELF" + image[4:], r"not a firmware\.bin of an ESP32-S3: it must begin with byte 0xe9"),
        (lambda image: b"", r"not a firmware\.bin of an ESP32-S3"),
        (lambda image: image[:0x8000], r"no partition table at 0x8000: is this an ESP32-S3's firmware\.bin\?"),
        (
            lambda image: image.replace(b"romfs", b"other"),
            r"has no partition named romfs, only nvs, phy_init, factory,",
        ),
        (
            lambda image: image.replace(b"\0\0\x90\0\0\0\x70\0", b"\0\0\x90\0\0\0\x80\0"),
            r"its partitions end at 0x1100000",
        ),
    ],
)
def test_firmware_that_does_not_fit(firmware, change, text):
    firmware.write_bytes(change(firmware.read_bytes()))
    with pytest.raises(Failure, match=rf"^{firmware}: {text}"):
        esp32s3.flash_image(firmware, b"")


def test_files_that_do_not_fit(firmware):
    with pytest.raises(Failure, match=r"^the files for /rom need 6,291,457 bytes, the partition romfs has 6,291,456$"):
        esp32s3.flash_image(firmware, bytes(0x600001))


def test_absent_firmware(tmp_path, monkeypatch):
    with pytest.raises(Failure, match=r"absent\.bin: No such file"):
        esp32s3.flash_image(tmp_path / "absent.bin", b"")
    monkeypatch.delenv("ESP32S3_FIRMWARE", raising=False)
    monkeypatch.setattr("host_sim.esp32.firmware.OUTPUT", tmp_path)
    with pytest.raises(Failure, match=r"no firmware of any board is built: run `just firmware BOARD`"):
        kinds.firmware_of("esp32s3")
    monkeypatch.setenv("ESP32S3_FIRMWARE", "/some/firmware.bin")
    assert kinds.firmware_of("esp32s3") == Path("/some/firmware.bin")


def test_the_emulator_that_knows_the_chip(qemu, monkeypatch):
    assert esp32s3.emulator() == f"{qemu}/espressif/qemu-system-xtensa"
    esp32s3.emulator.cache_clear()
    monkeypatch.setenv("PATH", f"{qemu}/debian")
    with pytest.raises(Failure, match=rf"{qemu}/debian/qemu-system-xtensa has no machine esp32s3; to install it"):
        esp32s3.emulator()
    monkeypatch.setenv("PATH", str(qemu))
    with pytest.raises(Failure, match=r"Espressif's QEMU is not on PATH: there is no qemu-system-xtensa;"):
        esp32s3.emulator()


def serve(*arguments, seconds=60):
    """Run `just board esp32s3 ...` until it prints its device or ends: (device, output, status)."""
    command = [sys.executable, "-m", "host_sim.boards", "serve", "esp32s3", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        device = server.stdout.readline().strip()
        server.terminate()
        said = server.communicate(timeout=seconds)[1]
    return device, said, server.returncode


def test_board_of_a_firmware(qemu, firmware, tmp_path):
    flash = tmp_path / "flash"
    flash.mkdir()
    (flash / "mine.py").write_text("print('kept')\n")
    before = set((BUILD / "board").glob("esp32s3-*"))
    with Board(program=firmware, kind="esp32s3", flash=flash, unchecked=True) as board:
        assert board.mpremote("exec", "import mine").stdout == "kept\n"
        assert "fashion_mnist.safetensors" in board.mpremote("fs", "ls", ":/rom/models").stdout
        result = board.mpremote("run", ROOT / "firmware" / "selfcheck.py")
        # The stand-in has this processor's SIMD backends, if there are any.
        assert result.returncode == 0 and "wrong" not in result.stdout and "reference" in result.stdout
    # QEMU's temporary files are removed.
    assert set((BUILD / "board").glob("esp32s3-*")) == before


def test_backends_that_agree(qemu, firmware, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAULT", "right pie")
    device, said, status = serve(firmware)
    assert device.startswith("/dev/") and status == 0
    assert "self-check: pie: as reference\n" in said
    assert "warning" not in said


def test_emulator_whose_pie_is_wrong(qemu, firmware, monkeypatch):
    """The board starts nevertheless, with a warning."""
    monkeypatch.setenv("STAND_IN_FAULT", "pie")
    device, said, status = serve(firmware)
    assert device.startswith("/dev/") and status == 0
    [warning] = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert re.search(r"RuntimeError: wrong numbers from pie: ", warning)
    assert "this emulator's PIE is wrong (docs/board.md): compute with ternary.use('reference')" in warning


def test_check_is_left_out(qemu, firmware, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAULT", "pie")
    device, said, status = serve(firmware, "--unchecked")
    assert device.startswith("/dev/") and (said, status) == ("", 0)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("psram", r"ended with status 1: no output"),
        ("boot", r"ended with status 7: 'I \(24\) boot: ESP-IDF v5\.5\.1 2nd stage bootloader'"),
    ],
)
def test_emulator_that_ends(qemu, firmware, monkeypatch, fault, text):
    monkeypatch.setenv("STAND_IN_FAULT", fault)
    device, said, status = serve(firmware)
    assert (device, status) == ("", 1)
    assert re.search(rf"^error: qemu-system-xtensa {text}$", said, re.MULTILINE)


def test_emulator_without_a_prompt(qemu, firmware, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_FAULT", "mute")
    monkeypatch.setattr(esp32s3, "BOOT", 1.0)
    (tmp_path / "flash").mkdir()
    with esp32s3.flash_files(firmware, tmp_path / "flash") as (image, efuse):
        command = esp32s3.command(esp32s3.emulator(), image, efuse)
        with pytest.raises(Failure, match=r"^no prompt within 1 s of starting qemu-system-xtensa: no output$"):
            esp32s3.Emulator(command)


def test_arguments_of_other_kinds(qemu, firmware):
    assert "--heap 200K: the ESP32-S3's heap size is not adjustable" in serve(firmware, "--heap", "200K")[1]
    command = [sys.executable, "-m", "host_sim.boards", "serve", "unix", firmware]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 1 and f"error: {firmware}: a firmware is for kind esp32s3 only" in done.stderr


def test_board_tests_run_on_it(qemu, firmware):
    """With an emulator and a firmware, test_server.py also runs on this kind."""
    environment = os.environ | {"ESP32S3_FIRMWARE": str(firmware)}
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-k",
        "esp32s3 or cannot",
        "tests/host_sim/boards/test_server.py",
    ]
    done = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"\b(\d+) passed", done.stdout)[1]) >= 25
    environment["PATH"] = os.environ["PATH"].replace("/espressif:", "/nothing:")
    done = subprocess.run(tests, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "esp32s3: Espressif's QEMU is not on PATH" in done.stdout and "1 skipped" in done.stdout
    assert "passed" not in done.stdout
