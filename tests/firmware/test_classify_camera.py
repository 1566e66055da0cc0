# SPDX-License-Identifier: MIT
"""classify_camera.py on the virtual board, with a module `camera` that serves pictures as the ESP32's driver would."""

import re
import shutil
import subprocess

import ftervit
import numpy as np
import pytest
from ftervit.camera import BOARDS, FORMATS

from tests import oracle
from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware"
WIDTH, HEIGHT = 96, 64
# Constants, the sizes and signed bytes of micropython-camera-API. Frames are files of /frames, in order; other names
# are what capture() does; after the last one comes Ctrl-C.
FAKE = f"""
from array import array
class PixelFormat:
    RGB565, YUV422, GRAYSCALE, RGB888 = 0, 1, 3, 5
class FrameSize:
    R240X240 = 5
class Camera:
    def __init__(self, *, pixel_format=0, frame_size=6, data_pins=None, pclk_pin=0, vsync_pin=0, href_pin=0, sda_pin=0,
                 scl_pin=0, xclk_pin=0):
        if data_pins:
            print("pins", data_pins, pclk_pin, vsync_pin, href_pin, sda_pin, scl_pin, xclk_pin)
            raise OSError("no answer on pin %d" % data_pins[0])
        assert frame_size == FrameSize.R240X240
        self.names = {{names}} or (["grey.bin", "none", "grey.bin"] if pixel_format == 3 else ["colour.bin"] * 2)
        self.bars = False
    def get_pixel_width(self):
        return {WIDTH}
    def get_pixel_height(self):
        return {HEIGHT}
    def set_colorbar(self, on):
        if {{barless}}:
            raise ValueError("No attribute colorbar")
        self.bars = on
    def capture(self):
        name = self.names.pop(0) if self.names else None
        if self.bars:
            name = "bars.bin"
        if name == "none":
            return None
        if name == "false":
            return False
        if name == "empty":
            return memoryview(b"")
        if name == "runtime":
            raise RuntimeError("camera went away")
        if name == "os":
            raise OSError(5)
        if name is None:
            {{wait}}
        with open("/frames/" + name, "rb") as file:
            return memoryview(array("b", file.read()))
    def deinit(self):
        print("camera off")
        open("/off", "w").close()
"""
INTERRUPT = "raise KeyboardInterrupt"
ENDLESS = 'name = "grey.bin"'


def shoe() -> np.ndarray:
    """The ankle boot as a camera of WIDTH x HEIGHT sees it, uint8 [HEIGHT, WIDTH]."""
    image = ftervit.read_image(str(FIRMWARE / "images" / "9_ankle_boot.pgm"))
    pixels = np.frombuffer(image.pixels, np.uint8).reshape(28, 28, 1)
    frame = np.zeros((HEIGHT, WIDTH), np.uint8)
    frame[:, 16:80] = oracle.resize(pixels, 64)[..., 0]
    return frame


def camera_board(own_board, wait=INTERRUPT, names=(), barless=False):
    """The board with a fake camera and its frames."""
    grey = shoe()
    word = (grey.astype(int) >> 3 << 11) | (grey.astype(int) >> 2 << 5) | (grey.astype(int) >> 3)
    frames, lib = own_board.flash / "frames", own_board.flash / "lib"
    frames.mkdir()
    lib.mkdir(exist_ok=True)
    (frames / "grey.bin").write_bytes(grey.tobytes())
    (frames / "colour.bin").write_bytes(word.astype(">u2").tobytes())
    (frames / "short.bin").write_bytes(grey.tobytes()[:-1])
    (lib / "camera.py").write_text(FAKE.format(wait=wait, names=list(names), barless=barless))
    return own_board


def changed(tmp_path, **constants):
    """classify_camera.py with other values for its constants."""
    text = (FIRMWARE / "classify_camera.py").read_text()
    for name, value in constants.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", text, flags=re.MULTILINE)
        assert count == 1, name
    path = tmp_path / "changed.py"
    path.write_text(text)
    return path


def test_grey_frames(own_board):
    result = camera_board(own_board).mpremote("run", FIRMWARE / "classify_camera.py")
    assert result.returncode == 0, result.stdout
    assert len(re.findall(r"^Ankle boot +\d\d\.\d %  [\d.]+ ms$", result.stdout, re.MULTILINE)) == 2
    lines = result.stdout.splitlines()
    assert lines[-2:] == ["2 frames", "camera off"]
    assert lines.count("camera: no frame came") == 1
    pictures = [line for line in lines if len(line) == 40]
    assert len(pictures) == 2 * 20 and len(set(pictures)) > 10


def test_colour_frames(own_board, colour_model, tmp_path):
    """A model for colours gets RGB565; the result is that of the same picture in a file."""
    shutil.copy(colour_model, own_board.flash / "colour.safetensors")
    script = changed(tmp_path, MODEL="colour.safetensors", COLUMNS=0)
    result = camera_board(own_board).mpremote("run", script)
    assert result.returncode == 0, result.stdout
    words = np.frombuffer((own_board.flash / "frames" / "colour.bin").read_bytes(), np.uint8)
    pixels = oracle.rgb565(words.reshape(HEIGHT, WIDTH, 2))
    model = ftervit.VisionTransformer.load(str(colour_model))
    label, probability = model.predict(ftervit.Image(pixels.tobytes(), WIDTH, HEIGHT, 3))[0]
    found = re.findall(r"^(.*?) +([\d.]+) %", result.stdout, re.MULTILINE)
    assert found == [(label, f"{100 * probability:.1f}")] * 2
    assert result.stdout.endswith("2 frames\ncamera off\n")


def test_light_and_dark_exchanged(own_board, tmp_path):
    camera_board(own_board)
    (own_board.flash / "frames" / "grey.bin").write_bytes((255 - shoe()).tobytes())
    labels = [own_board.mpremote("run", changed(tmp_path, INVERT=invert)).stdout for invert in (True, False)]
    found = [len(re.findall(r"^Ankle boot ", text, re.MULTILINE)) for text in labels]
    assert found == [2, 0], labels


def test_interrupted_while_it_follows(own_board):
    """Ctrl-C from the next client, as after a lost connection, switches the camera off and leaves a usable board."""
    board = camera_board(own_board, ENDLESS)
    command = board.command("run", FIRMWARE / "classify_camera.py")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        for line in client.stdout:
            if line.startswith("Ankle boot"):
                break
        client.kill()
    assert line.startswith("Ankle boot")
    assert not (board.flash / "off").exists()
    assert board.mpremote("eval", "6 * 7").stdout == "42\n"
    assert (board.flash / "off").exists()


def test_without_a_camera_module(board):
    result = board.mpremote("run", FIRMWARE / "classify_camera.py")
    assert result.returncode == 0
    [line] = result.stdout.splitlines()
    assert line.startswith("classify_camera.py: this firmware has no camera module")


def test_mounted_with_all_scripts_it_finds_the_module(own_board):
    """None of them has the module's name."""
    result = camera_board(own_board).mpremote("mount", FIRMWARE, "run", FIRMWARE / "classify_camera.py")
    assert "2 frames\ncamera off\n" in result.stdout, result.stdout


@pytest.mark.parametrize(
    ("constants", "words"),
    [({"PINS": {"data_pins": [7]}}, "no answer on pin 7"), ({"SIZE": "R1X1"}, "R1X1"), ({"PINS": {"pin": 1}}, "pin")],
)
def test_a_camera_that_does_not_start(own_board, tmp_path, constants, words):
    result = camera_board(own_board).mpremote("run", changed(tmp_path, **constants))
    line = result.stdout.splitlines()[-1]
    assert line.startswith("classify_camera.py: the camera does not start, check size, board and pins: ")
    assert words in line


@pytest.mark.parametrize(
    ("constants", "words"),
    [
        ({"BOARD": "ESP32"}, "board: 'ESP32', must be one of ESP32S3_EYE, FREENOVE_ESP32S3_CAM, M5STACK_CORES3, XIAO_"),
        ({"FORMAT": "RAW"}, "format: 'RAW', must be one of GRAYSCALE, JPEG, RGB565, RGB888, YUV422"),
        ({"FORMAT": "RGB565", "ORDER": "bgr"}, "order: 'bgr', must be one of big, big-bgr, little, little-bgr"),
        ({"MODEL": "models/none.safetensors"}, "models/none.safetensors cannot be opened"),
        ({"TEST": True, "FORMAT": "GRAYSCALE"}, "format: GRAYSCALE has no order to test"),
    ],
)
def test_settings_that_are_not_there(own_board, tmp_path, constants, words):
    result = camera_board(own_board).mpremote("run", changed(tmp_path, **constants))
    lines = result.stdout.replace("camera off\n", "").splitlines()
    assert len(lines) == 1 and lines[0].startswith("classify_camera.py: " + words), result.stdout


def test_pins_by_name_and_single_ones_replaced(own_board, tmp_path):
    script = changed(tmp_path, BOARD="XIAO_ESP32S3_SENSE", PINS={"xclk_pin": 9})
    result = camera_board(own_board).mpremote("run", script)
    assert "pins [15, 17, 18, 16, 14, 12, 11, 48] 13 38 47 40 39 9\n" in result.stdout


def test_pins_of_boards_are_pins_of_the_chip():
    """GPIO 0 to 21 and 33 to 48; octal PSRAM takes 33 to 37. No pin has two uses."""
    for name, board in BOARDS.items():
        pins = [*board["data_pins"], *(value for key, value in board.items() if key != "data_pins" and value != -1)]
        assert len(board["data_pins"]) == 8 and len(board) == 7, name
        assert len(set(pins)) == len(pins) and set(pins) <= {*range(22), *range(38, 49)}, name


def test_the_table_of_boards_names_the_boards_of_the_package():
    """Names of pins, and firmware whose flash is the board's; the pins themselves stand in BOARDS alone."""
    text = (ROOT / "docs" / "board.md").read_text().partition("## Boards that fit")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    boards = [row for row in rows[2:] if not row[0].startswith("any module")]
    assert [row[4] for row in boards] == list(BOARDS)
    for _, memory, firmware, *_ in boards:
        assert firmware in (memory.startswith("8 MB, 8 MB octal") and "FTERVIT_S3_N8R8", "none yet"), memory
        assert (firmware == "none yet") == ("quad" in memory), memory
    for name in re.findall(r"FTERVIT_S3_\w+", text):
        assert (FIRMWARE / "boards" / name / "sdkconfig.board").exists(), name


@pytest.mark.parametrize("bad", ["none", "false", "empty", "short.bin", "runtime", "os"])
def test_a_bad_frame_costs_a_line_and_the_next_try(own_board, bad):
    board = camera_board(own_board, names=["grey.bin", *[bad] * 9, "grey.bin", bad, "grey.bin"])
    lines = board.mpremote("run", FIRMWARE / "classify_camera.py").stdout.splitlines()
    assert lines[-2:] == ["3 frames", "camera off"]
    problems = [line for line in lines if line.startswith("camera: ")]
    said = {
        "none": "no frame came",
        "false": "no frame came",
        "empty": "no frame came",
        "short.bin": f"no whole frame came: pixels: {WIDTH * HEIGHT - 1} bytes, need {WIDTH * HEIGHT}",
        "runtime": "no whole frame came: camera went away",
        "os": "no whole frame came: [Errno 5] EIO",
    }
    assert problems == ["camera: " + said[bad]] * 10
    assert "Traceback" not in lines


def test_ten_bad_frames_in_a_row_end_it(own_board):
    names = ["none", "runtime", "short.bin", "false", "os"]
    board = camera_board(own_board, names=["grey.bin", *2 * names])
    lines = board.mpremote("run", FIRMWARE / "classify_camera.py").stdout.splitlines()
    assert len([line for line in lines if line.startswith("camera: no ")]) == 10
    assert lines[-2] == "camera off"
    assert lines[-1].startswith(
        "classify_camera.py: 10 times in a row no whole frame came: check the flat cable, board"
    )


def frame_of(pixels, order) -> bytes:
    """uint8 [h, w, 3] as the frame that this order reads."""
    red, green, blue = (pixels[..., i].astype(int) for i in range(3))
    if order in ("yuyv", "uyvy", "yvyu", "vyuy"):
        y = (0.299 * red + 0.587 * green + 0.114 * blue).round()
        u, v = ((c - y)[:, ::2] / scale + 128 for c, scale in ((blue, 1.772), (red, 1.402)))
        parts = {"y": iter((y[:, ::2], y[:, 1::2])), "u": iter([u]), "v": iter([v])}
        return np.stack([next(parts[letter]) for letter in order], -1).round().clip(0, 255).astype(np.uint8).tobytes()
    if order in ("rgb", "bgr"):
        return (pixels if order == "rgb" else pixels[..., ::-1]).tobytes()
    first, last = (blue, red) if order.endswith("bgr") else (red, blue)
    word = (first >> 3 << 11) | (green >> 2 << 5) | (last >> 3)
    return word.astype("<u2" if order.startswith("little") else ">u2").tobytes()


def colour_bars() -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3]: white yellow cyan green magenta red blue black."""
    colours = [[255 * (7 - i >> bit & 1) for bit in (1, 2, 0)] for i in range(8)]
    return np.repeat(np.array(colours, np.uint8)[None], HEIGHT, axis=0).repeat(WIDTH // 8, axis=1)


ORDERS = [(form, order) for form, orders in FORMATS.items() for order in orders if order]


@pytest.mark.parametrize(("form", "order"), ORDERS)
def test_the_test_picture_shows_the_right_order(own_board, tmp_path, form, order):
    board = camera_board(own_board)
    (board.flash / "frames" / "bars.bin").write_bytes(frame_of(colour_bars(), order))
    (board.flash / "frames" / "colour.bin").write_bytes(frame_of(np.zeros_like(colour_bars()), order))
    lines = board.mpremote("run", changed(tmp_path, TEST=True, FORMAT=form)).stdout.splitlines()
    assert lines[0] == "colour bars" and lines[-1] == "camera off"
    rows = lines[1:-2]
    assert [row.split()[0] for row in rows] == list(FORMATS[form])
    bars = "white yellow cyan green magenta red blue black"
    [right] = [row for row in rows if row.endswith("<- right")]
    assert " ".join(right.split()) == f"{order} {bars} <- right"
    assert lines[-2] == f"right is the order that shows: {bars}"


def test_a_sensor_without_test_picture_lets_a_person_judge(own_board, tmp_path):
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8) + np.array([230, 20, 30], np.uint8)
    board = camera_board(own_board, names=["colour.bin"] * 9, barless=True)
    (board.flash / "frames" / "colour.bin").write_bytes(frame_of(red, "little"))
    lines = board.mpremote("run", changed(tmp_path, TEST=True)).stdout.splitlines()
    assert lines[0] == "this sensor has no colour bars: hold something red before it"
    middles = {row.split()[0]: row.partition("  middle ")[2] for row in lines[1:5]}
    assert middles["little"] == "231 20 24" and middles["big"] == "165 125 0"
    assert middles["little-bgr"] == "24 20 231" and middles["big-bgr"] == "0 125 165"
    assert lines[5] == "right is the order that shows: most red, least green and blue"


@pytest.mark.parametrize(("form", "order"), ORDERS)
def test_frames_of_every_format_and_order(own_board, colour_model, tmp_path, form, order):
    """The result is that of the picture that the frame was made of."""
    pixels = np.random.default_rng(5).integers(0, 256, (4, 6, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    board = camera_board(own_board)
    shutil.copy(colour_model, board.flash / "colour.safetensors")
    content = frame_of(pixels, order)
    (board.flash / "frames" / "colour.bin").write_bytes(content)
    script = changed(tmp_path, MODEL="colour.safetensors", COLUMNS=0, FORMAT=form, ORDER=order)
    result = board.mpremote("run", script)
    frame = np.frombuffer(content, np.uint8)
    if form == "RGB565":
        pixels = oracle.rgb565(frame.reshape(HEIGHT, WIDTH, 2), FORMATS[form].index(order))
    elif form == "YUV422":
        pixels = oracle.yuv422(frame.reshape(HEIGHT, WIDTH // 2, 4), FORMATS[form].index(order))
    model = ftervit.VisionTransformer.load(str(colour_model))
    label, probability = model.predict(ftervit.Image(pixels.tobytes(), WIDTH, HEIGHT, 3))[0]
    found = re.findall(r"^(.*?) +([\d.]+) %", result.stdout, re.MULTILINE)
    assert found == [(label, f"{100 * probability:.1f}")] * 2, result.stdout
