# SPDX-License-Identifier: MIT
"""classify_camera.py on the virtual board, with a module `camera` that serves pictures as the ESP32's driver would."""

import re
import shutil
import subprocess

import ftervit
import numpy as np
import pytest

from tests import oracle
from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware"
WIDTH, HEIGHT = 96, 64
# Constants, the sizes and signed bytes of micropython-camera-API; frames end with None, then with Ctrl-C.
FAKE = f"""
from array import array
class PixelFormat:
    RGB565, GRAYSCALE = 0, 3
class FrameSize:
    R240X240 = 5
class Camera:
    def __init__(self, *, pixel_format=0, frame_size=6, data_pins=None):
        if data_pins:
            raise OSError("no answer on pin %d" % data_pins[0])
        assert frame_size == FrameSize.R240X240
        self.names = ["grey.bin", "none", "grey.bin"] if pixel_format == 3 else ["colour.bin"] * 2
    def get_pixel_width(self):
        return {WIDTH}
    def get_pixel_height(self):
        return {HEIGHT}
    def capture(self):
        name = self.names.pop(0) if self.names else None
        if name == "none":
            return None
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


def camera_board(own_board, wait=INTERRUPT):
    """The board with a fake camera and its frames."""
    grey = shoe()
    word = (grey.astype(int) >> 3 << 11) | (grey.astype(int) >> 2 << 5) | (grey.astype(int) >> 3)
    frames, lib = own_board.flash / "frames", own_board.flash / "lib"
    frames.mkdir()
    lib.mkdir(exist_ok=True)
    (frames / "grey.bin").write_bytes(grey.tobytes())
    (frames / "colour.bin").write_bytes(word.astype(">u2").tobytes())
    (lib / "camera.py").write_text(FAKE.format(wait=wait))
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
    assert lines.count("classify_camera.py: no frame came") == 1
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
    [line] = result.stdout.splitlines()
    assert line.startswith("classify_camera.py: the camera does not start, check SIZE and PINS: ")
    assert words in line
