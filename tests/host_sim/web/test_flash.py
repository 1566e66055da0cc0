# SPDX-License-Identifier: MIT
"""Installing firmware by esptool-js, with a stand-in for the bootloader in the chip's ROM at the other end."""

import struct

import numpy as np
import pytest

from host_sim.web.browser import open_page
from tests.host_sim.web.rom import Rom
from tests.host_sim.web.stand_in import SERIAL, SerialHandler

ESP32S3, ESP32, ESP32C3 = 9, 0, 5


def firmware(chip: int = ESP32S3, size: int = 200_003, table: bytes = b"\xaa\x50") -> bytes:
    """A flash image: the header of a bootloader, a partition table's first bytes, and random ones; no multiple of 4."""
    content = bytearray(np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes())
    content[:24] = struct.pack("<BBBBIBBBBHBIB", 0xE9, 3, 2, 0x3F, 0x40378000, 0xEE, 0, 0, 0, chip, 0, 0, 0) + bytes(4)
    content[0x8000:0x8002] = table
    content[0x9000:0xF000] = b"\xff" * 0x6000
    return bytes(content)


@pytest.fixture
def install(chromium, address):
    """install(rom, image): what the page says in the end of installing an image."""
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    context.add_init_script(SERIAL)
    page = open_page(context, address)
    page.click("#tab-chip")
    roms = []

    def install(rom, image=None, name="firmware.bin"):
        roms.append(rom)
        SerialHandler.device, SerialHandler.chip = rom.device, rom
        page.set_input_files("#firmware", {"name": name, "mimeType": "", "buffer": image or firmware()})
        page.click("#flash")
        page.wait_for_selector("#flash:not([disabled])")
        return page.locator("#chip-state").text_content()

    install.page = page
    yield install
    SerialHandler.chip = None
    context.close()
    for rom in roms:
        rom.close()


def test_firmware_arrives_byte_for_byte_and_boots(install):
    rom, image = Rom(), firmware()
    assert install(rom, image) == "firmware.bin: written and compared; connect to the board now"
    assert rom.flash[: len(image)] == image
    # The rest of the last block is erased; what lies behind it stays.
    assert set(rom.flash[len(image) : -(-len(image) // 4096) * 4096]) == {0xFF}
    assert rom.flash.endswith(b"mine")
    assert rom.blocks > 5
    assert rom.states[0] == rom.states[-1] == "app" and set(rom.states[1:-1]) == {"download"}


@pytest.mark.parametrize(
    "image, words",
    [
        (b"hello", "not a flash image of an ESP32 (its first byte is not 0xE9)"),
        (firmware(ESP32C3), "an image for ESP32-C3, needs one for ESP32-S3"),
        (firmware(77), "an image for chip number 77, needs one for ESP32-S3"),
        (firmware(table=b"\0\0"), "has no partition table at 0x8000: choose the firmware.bin that starts at address 0"),
        (firmware(size=20), "has no partition table at 0x8000: choose the firmware.bin that starts at address 0"),
    ],
    ids=["text", "chip", "number", "app", "short"],
)
def test_files_that_are_no_firmware_of_this_chip_touch_nothing(refusals, image, words):
    rom, said = refusals(image)
    assert said == f"notes.bin: {words}"
    assert rom.states == ["app"]


@pytest.fixture(scope="module")
def refusals(chromium, address):
    """One page for files that are refused before a port is opened: (the chip, what the page says)."""
    rom = Rom()
    context = chromium.new_context()
    context.add_init_script(SERIAL)
    page = open_page(context, address)
    page.click("#tab-chip")

    def refused(image):
        SerialHandler.device, SerialHandler.chip = rom.device, rom
        page.set_input_files("#firmware", {"name": "notes.bin", "mimeType": "", "buffer": image})
        page.click("#flash")
        page.wait_for_selector("#flash:not([disabled])")
        return rom, page.locator("#chip-state").text_content()

    yield refused
    SerialHandler.chip = None
    context.close()
    rom.close()


def test_what_goes_wrong_on_the_way_is_one_line(install):
    untouched = Rom().flash
    # Another chip: an old one without the command that tells its number, and a new one.
    for rom, name in (
        (Rom(magic=0x00F01D83, security=False), "ESP32"),
        (Rom(chip_id=ESP32C3, magic=0x1B31506F), "ESP32-C3"),
    ):
        assert install(rom) == f"{name} is connected; the firmware is for ESP32-S3"
        assert rom.flash == untouched and not rom.stub
        assert rom.states[-1] == "app", "it runs again"

    # Larger than the flash.
    rom = Rom(size=1 << 18)
    assert install(rom, firmware(size=300_000)) == "firmware.bin: 300,000 bytes, the chip's flash has 256KB"
    assert rom.flash == Rom(size=1 << 18).flash

    # A flash that keeps another bit than it was sent.
    rom = Rom(corrupt=True)
    again = "install it again before you use the board, perhaps with another cable"
    assert install(rom) == f"firmware.bin: what the flash holds differs; {again}"

    # The board is unplugged on the way; afterwards, another one takes the firmware. It is slow enough to be there when
    # esptool-js, three seconds after the loss, sends its last block to the first board again.
    rom = Rom(lost_after=3)
    assert install(rom) == "firmware.bin: the board was unplugged; plug it in and install it again"
    assert rom.blocks == 3
    rom = Rom(pause=0.8)
    assert install(rom) == "firmware.bin: written and compared; connect to the board now"
    assert rom.flash[: len(firmware())] == firmware()


def test_chip_that_does_not_answer_is_told_what_to_press(install):
    rom = Rom()
    rom.signals = lambda dtr, rts: None  # a board without the transistors stays in its program
    said = install(rom)
    assert said == "the chip does not answer: hold its button BOOT, press RESET, let go of BOOT, and try again"
