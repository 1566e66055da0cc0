# SPDX-License-Identifier: MIT
"""The page's way to a chip, with MicroPython of the unix port or in QEMU at the other end of the serial line."""

import re
import shutil

import ftervit
import pytest

from host_sim.boards.client import Board
from host_sim.setup.apt import ARM_EMULATOR
from host_sim.web.browser import open_page
from tests.conftest import ROOT
from tests.host_sim.web.conftest import need
from tests.host_sim.web.stand_in import SERIAL, SerialHandler

MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
# As micropython-camera-API: signed bytes, a first frame that does not come, pins that do not fit.
CAMERA = """
from array import array
class PixelFormat:
    RGB565 = 0
class FrameSize:
    R240X240 = 5
class Camera:
    def __init__(self, *, pixel_format, frame_size, data_pins=None, **pins):
        if data_pins:
            raise OSError("no answer on pin %d" % data_pins[0])
        self.frames = 0
    def capture(self):
        self.frames += 1
        # Upper half red, lower half blue.
        picture = b"\\xf8\\x00" * 48 + b"\\x00\\x1f" * 48
        return memoryview(array("b", picture)) if self.frames > 1 else None
    def get_pixel_width(self):
        return 12
    def get_pixel_height(self):
        return 8
    def deinit(self):
        print("off", file=open("/off", "w"))
"""
COLOURS = """() => [1, 6].map(y =>
    [...document.getElementById('picture').getContext('2d').getImageData(3, y, 1, 1).data].slice(0, 3))"""
RED, BLUE = [255, 0, 0], [0, 0, 255]
QEMU_SCRIPT = """
import sys
from ftervit import VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
print(sys.platform, list(model(model.preprocess(read_image("images/7_sneaker.pgm")))))
"""


@pytest.fixture
def page(chromium, address, own_board):
    """The page with a stand-in port that leads to a board of its own."""
    yield from at(chromium, address, own_board)


@pytest.fixture
def qemu_page(chromium, address, tmp_path):
    """The same with a Cortex-M7 in QEMU, which has a camera module, too."""
    need(shutil.which(ARM_EMULATOR), "needs QEMU: apt-get install qemu-system-arm")
    flash = tmp_path / "flash"
    flash.mkdir()
    (flash / "camera.py").write_text(CAMERA)
    with Board(kind="qemu", flash=flash) as board:
        yield from at(chromium, address, board)


def at(chromium, address, board):
    """A page whose serial port leads to a board."""
    SerialHandler.device = board.path
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


def test_board_that_is_unplugged_while_a_script_runs(page, own_board):
    connect(page)
    page.click("#tab-script")
    page.locator(".cm-content").fill("import sys\nprint('on', sys.platform)\nwhile True:\n    pass\n")
    page.click("#run-chip")
    page.wait_for_function("() => document.getElementById('output').textContent.includes('on linux')")
    own_board.process.terminate()
    page.wait_for_selector("#output[data-state=failed]")
    assert page.locator("#output").text_content() == "on linux\nthe board was unplugged\n"
    assert page.locator("#chip-state").text_content() == "the board was unplugged"


def test_model_is_copied_byte_for_byte(page, own_board):
    model = MODEL
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
    assert page.evaluate(COLOURS) == [RED, BLUE]
    assert (own_board.flash / "off").exists()


def test_teaching_by_the_boards_camera(page, own_board):
    (own_board.flash / "camera.py").write_text(CAMERA)
    assert page.locator("#board-camera").is_hidden()
    connect(page)
    page.select_option("#camera-pins", "XIAO_ESP32S3_SENSE")
    page.click("#board-camera")
    failed = "the camera does not start, check size, board and pins: no answer on pin 15"
    said(page, failed)
    assert page.locator("#problem").text_content() == failed
    page.select_option("#camera-pins", "")
    page.select_option("#camera-order", "big-bgr")
    page.click("#board-camera")
    said(page, "its camera runs")
    page.wait_for_function("() => document.getElementById('picture-name').textContent === \"the board's camera\"")
    assert page.evaluate(COLOURS) == [BLUE, RED]

    page.click("#tab-teach")
    page.fill("#class-name", "flag")
    page.keyboard.press("Enter")
    flag = page.locator("[data-label=flag]")
    flag.dispatch_event("pointerdown")
    page.wait_for_function("() => parseInt(document.querySelector('[data-label=flag] span').textContent) >= 3")
    page.evaluate("dispatchEvent(new PointerEvent('pointerup'))")

    # A script has the board to itself.
    assert not (own_board.flash / "off").exists()
    page.click("#tab-script")
    page.locator(".cm-content").fill("print('mine')")
    page.click("#run-chip")
    page.wait_for_selector("#output[data-state=ended]")
    assert page.locator("#output").text_content() == "mine\n"
    assert page.locator("#board-camera").text_content() == "Start board's camera"
    assert (own_board.flash / "off").exists()

    # Pulled out while its camera runs.
    page.click("#board-camera")
    page.wait_for_selector("#board-camera[aria-pressed=true]")
    own_board.process.terminate()
    page.wait_for_function("() => document.getElementById('problem').textContent === 'the board was unplugged'")
    page.wait_for_selector("#board-camera", state="hidden")
    page.click("#tab-chip")
    assert page.locator("#chip-state").text_content() == "the board was unplugged"
    assert page.locator("#connect").is_enabled() and page.locator("#shoot").is_disabled()
    # Its port is closed, so that it can be opened again.
    page.wait_for_function("async () => (await navigator.serial.requestPort()).readable === null")


def test_board_in_qemu(qemu_page):
    page = qemu_page
    connect(page)
    facts = page.locator("#chip-about").inner_text()
    assert "/rom/models/fashion_mnist.safetensors" in facts
    assert re.search(r"Board\s+\S*mps2", facts), facts
    assert re.search(r"Module ternary\s+yes", facts) and re.search(r"Camera\s+yes", facts)

    # Its only files are those of /rom.
    page.click("#copy")
    said(
        page,
        r"^/models/fashion_mnist.safetensors: the board cannot write it \(OSError.*\): is its file system read-",
    )

    page.click("#shoot")
    said(page, "picture taken")
    assert page.evaluate(COLOURS) == [RED, BLUE]

    model = ftervit.VisionTransformer.load(str(MODEL))
    logits = list(model(model.preprocess(ftervit.read_image(str(ROOT / "firmware" / "images" / "7_sneaker.pgm")))))
    page.click("#tab-script")
    page.locator(".cm-content").fill(QEMU_SCRIPT)
    page.click("#run-chip")
    page.wait_for_selector("#output[data-state=ended]")
    assert page.locator("#output").text_content() == f"qemu {logits}\n"

    page.locator(".cm-content").fill("print('on')\nwhile True:\n    pass\n")
    page.click("#run-chip")
    page.wait_for_function("() => document.getElementById('output').textContent.includes('on')")
    page.click("#script-stop")
    page.wait_for_selector("#output[data-state=failed]")
    assert "KeyboardInterrupt" in page.locator("#output").text_content()


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
