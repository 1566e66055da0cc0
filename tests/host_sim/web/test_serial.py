# SPDX-License-Identifier: MIT
"""The page's way to a chip, with MicroPython of the unix port at the other end of the serial line."""

import re

import pytest

from host_sim.web.browser import open_page
from tests.conftest import ROOT
from tests.host_sim.web.stand_in import SERIAL, SerialHandler

CAMERA = """
class PixelFormat:
    RGB565 = 0
class FrameSize:
    R240X240 = 5
class Camera:
    def __init__(self, pixel_format, frame_size):
        pass
    def capture(self):
        # Upper half red, lower half blue.
        return b"\\xf8\\x00" * 32 + b"\\x00\\x1f" * 32
    def get_pixel_width(self):
        return 8
    def get_pixel_height(self):
        return 8
    def deinit(self):
        print("off", file=open("/off", "w"))
"""


@pytest.fixture
def page(chromium, address, own_board):
    """The page with a stand-in port that leads to a board of its own."""
    SerialHandler.device = own_board.path
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    context.add_init_script(SERIAL)
    page = open_page(context, address)
    page.click("#tab-chip")
    yield page
    context.close()


def connect(page):
    page.click("#connect")
    said(page, "connected")


def said(page, pattern):
    """Wait until the panel says something."""
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.getElementById('chip-state').textContent)", arg=pattern
    )


def test_connect_says_what_the_board_has(page, own_board):
    connect(page)
    facts = page.locator("#chip-about").inner_text()
    assert "/models/fashion_mnist.safetensors" in facts
    assert re.search(r"Module ternary\s+yes", facts)
    assert re.search(r"Camera\s+no camera module", facts)
    page.click("#disconnect")
    said(page, "disconnected")
    # The board is at its friendly prompt, and mpremote finds it as ever.
    assert own_board.mpremote("eval", "6 * 7").stdout.strip() == "42"


def test_edited_script_runs_on_the_board_and_stops(page):
    connect(page)
    page.click("#tab-script")
    page.evaluate("ftervit.chip.connected")
    page.click("#run-chip")
    page.wait_for_selector("#output[data-state=ended]")
    assert "10 of 10 right" in page.locator("#output").text_content()

    page.locator(".cm-content").fill("import sys\nprint('on', sys.platform)\nwhile True:\n    pass\n")
    page.click("#run-chip")
    page.wait_for_function("() => document.getElementById('output').textContent.includes('on linux')")
    page.click("#script-stop")
    page.wait_for_selector("#output[data-state=failed]")
    assert "KeyboardInterrupt" in page.locator("#output").text_content()


def test_model_is_copied_byte_for_byte(page, own_board):
    model = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
    target = own_board.flash / "models" / model.name
    target.unlink()
    connect(page)
    page.click("#copy")
    said(page, "copied and compared")
    assert target.read_bytes() == model.read_bytes()


def test_picture_of_the_boards_camera(page, own_board):
    (own_board.flash / "camera.py").write_text(CAMERA)
    connect(page)
    page.click("#shoot")
    said(page, "picture taken")
    assert page.locator("#picture-name").text_content() == "the board's camera"
    colours = page.evaluate(
        "[1, 6].map(y => [...document.getElementById('picture').getContext('2d').getImageData(3, y, 1, 1).data])"
    )
    assert colours == [[255, 0, 0, 255], [0, 0, 255, 255]]
    assert (own_board.flash / "off").exists()


def test_board_that_does_not_answer_is_said(page, own_board):
    page.evaluate("() => { const now = performance.now.bind(performance); performance.now = () => 20 * now(); }")
    SerialHandler.device = "/dev/ptmx"  # a terminal with nobody behind it
    page.click("#connect")
    said(page, "the board does not answer .*is MicroPython on it")
    assert page.locator("#connect").is_enabled()


def test_firmware_that_is_no_image_is_refused(page):
    page.set_input_files("#firmware", {"name": "notes.bin", "mimeType": "", "buffer": b"hello"})
    page.click("#flash")
    said(page, r"notes\.bin: not a flash image of an ESP32")
