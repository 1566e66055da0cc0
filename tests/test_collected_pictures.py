# SPDX-License-Identifier: MIT
"""From the camera to a label: collected on the board, copied, trained as they are, and named by the board."""

import re
import shutil

import ftervit
import numpy as np
import pytest

from host_sim.boards.client import Board
from tests import oracle
from tests.boards import Terminal
from tests.conftest import ROOT
from tests.firmware.test_classify_camera import FAKE, HEIGHT, INTERRUPT, WIDTH, frame_of
from tests.photos import photograph
from tests.test_own_pictures import trainer

FIRMWARE = ROOT / "firmware"
LABELS = ("\N{CAT FACE} cat", "dog")
SHOWN = ("circle", "checker")  # what stands before the camera
EACH = 12
CHANGES = (
    "data.size=32",
    "data.workers=0",
    "data.validation=4",
    "model.stem=[[16,3,2,1],[32,3,2,1]]",
    "model.options={embed_dim=48,depth=1,num_heads=2,mlp_ratio=2}",
    "teacher.model.options={layers=[1,1,1,1],channels=[16,16,24,32]}",
    "teacher.training.epochs=1",
    "teacher.training.batch=5",
    "student.batch=5",
    "recovery.batch=2",
    "student.epochs=2",
    "student.full_precision_epochs=1",
    "recovery.epochs=1",
    "recovery.calibration=8",
    "compute.threads=1",
)


def photos(shown: str) -> list[np.ndarray]:
    """uint8 [HEIGHT, WIDTH, 3] of each picture that is taken."""
    return [np.asarray(photograph(shown, seed, WIDTH, HEIGHT)) for seed in range(EACH)]


@pytest.fixture(scope="module")
def camera(program, tmp_path_factory):
    """A board with a camera whose bytes come low byte first, and collect.py; its frames are those of `photos`."""
    flash = tmp_path_factory.mktemp("camera") / "flash"
    for folder in ("frames", "lib"):
        (flash / folder).mkdir(parents=True)
    names = []
    for shown in SHOWN:
        for number, pixels in enumerate(photos(shown)):
            names.append(f"{shown}{number}.bin")
            (flash / "frames" / names[-1]).write_bytes(frame_of(pixels, "little"))
    names.insert(3, "none")
    names.append(names[0])  # for the one that is only looked at, and the one that is deleted
    names.append(names[0])
    (flash / "lib" / "camera.py").write_text(FAKE.format(wait=INTERRUPT, names=names, barless=False))
    shutil.copy(FIRMWARE / "collect.py", flash)
    with Board(program=program, flash=flash) as board:
        yield board


@pytest.fixture(scope="module")
def collected(camera, tmp_path_factory):
    """(what the terminal showed, the folder on the PC)."""
    with Terminal.of(camera.path) as terminal:
        terminal.fresh_prompt()
        terminal.send(b"import collect\r")
        terminal.read_until(b">>> ")
        terminal.send(rb"collect.pictures('\U0001f431 cat', 'dog', order='little')" + b"\r")
        shown = terminal.read_until(b"q: end\r\n")
        for key in "1" * EACH + "2" * EACH + " x3" + "2u" + "q":
            terminal.send(key.encode())
            if key not in "x3q":
                shown += terminal.read_until(b"dog %d\r\n" % 0 if key == "1" else b"dog ", 20)
        shown += terminal.read_until(b">>> ")
    folder = tmp_path_factory.mktemp("pc")
    result = camera.mpremote("cp", "-r", ":pictures", f"{folder}/", timeout=120)
    assert result.returncode == 0, result.stdout
    return shown.decode(), folder / "pictures"


def test_the_files_are_the_frames(collected):
    """The middle squares, in the order of bytes that was named, a folder for each class."""
    _, folder = collected
    assert sorted(path.name for path in folder.iterdir()) == sorted(LABELS)
    for label, shown in zip(LABELS, SHOWN, strict=True):
        paths = sorted((folder / label).iterdir())
        assert [path.name[-9:] for path in paths] == [f"-{n:04}.ppm" for n in range(1, EACH + 1)]
        for path, pixels in zip(paths, photos(shown), strict=True):
            image = ftervit.read_image(str(path))
            frame = np.frombuffer(frame_of(pixels, "little"), np.uint8).reshape(HEIGHT, WIDTH, 2)
            square = oracle.crop(oracle.rgb565(frame, 1), *oracle.middle(WIDTH, HEIGHT))
            assert (image.width, image.height) == (HEIGHT, HEIGHT)
            assert bytes(image.pixels) == square.tobytes()


def test_the_terminal_counts(collected):
    text, _ = collected
    assert "1: \N{CAT FACE} cat (0)\r\n2: dog (0)\r\nspace: look, u: delete the last, q: end\r\n" in text
    counts = re.findall(r"^\N{CAT FACE} cat (\d+), dog (\d+)\r$", text, re.MULTILINE)
    taken = [(n, 0) for n in range(1, EACH + 1)] + [(EACH, n) for n in range(1, EACH + 1)]
    assert [(int(a), int(b)) for a, b in counts] == [*taken, (EACH, EACH), (EACH, EACH + 1), (EACH, EACH)]
    assert text.count("camera: no frame came\r\n") == 1
    assert re.search(r"^pictures/dog/[0-9a-f]{6}-0001\.ppm: \d+ more fit\r$", text, re.MULTILINE)
    assert re.search(rf"^deleted pictures/dog/[0-9a-f]{{6}}-{EACH + 1:04}\.ppm\r$", text, re.MULTILINE)
    assert text.count("camera off") == 1 and "Traceback" not in text


def test_they_are_trained_as_they_are_and_the_board_names_them(collected, camera, tmp_path):
    _, folder = collected
    config = ROOT / "trainer" / "configs" / "from_nothing.toml"
    said = trainer("train", "--config", config, "--run", tmp_path / "run", f"data.path={folder}", *CHANGES)
    assert "skipped" not in said
    model = tmp_path / "run" / "from_nothing.safetensors"
    host = ftervit.VisionTransformer.load(str(model))
    assert sorted(host.labels) == sorted(LABELS)
    shutil.copy(model, camera.flash / "models")
    found = [path for label in LABELS for path in sorted((folder / label).iterdir())[::5]]
    pictures = [path.relative_to(folder.parent).as_posix() for path in found]
    given = f"MODEL = 'models/{model.name}'; PICTURES = {pictures!r}"
    result = camera.mpremote("exec", given, "run", FIRMWARE / "classify.py")
    assert result.returncode == 0, result.stdout
    names = re.findall(r"^(pictures/.*\.ppm): .*\n  (.*?) +[\d.]+ %", result.stdout, re.MULTILINE)
    expected = [(path, host.predict(ftervit.read_image(str(folder.parent / path)))[0][0]) for path in pictures]
    assert names == expected
    right = sum(path.split("/")[1] == label for path, label in expected)
    assert result.stdout.endswith(f"{right} of {len(pictures)} right\n")


def test_what_is_wrong_is_said_in_one_line(camera):
    """Names of classes, settings of the camera."""
    calls = {
        "'cat'": "collect: 2 to 10 classes, not 1",
        "'cat', 'cat'": "collect: class 'cat': given twice",
        "'cat', '../dog'": "collect: class '../dog': must be a folder's name",
        "'cat', 3": "collect: class 3: must be a folder's name",
        "'cat', 'dog', order='bgr'": "collect: order: 'bgr', must be one of big, big-bgr, little, little-bgr",
        "'cat', 'dog', board='X'": "collect: board: 'X', must be one of ESP32S3_EYE, FREENOVE_ESP32S3_CAM, M5STACK_",
    }
    script = "import collect\n" + "\n".join(f"collect.pictures({call})" for call in calls)
    lines = camera.mpremote("exec", script).stdout.splitlines()
    assert len(lines) == len(calls)
    for line, words in zip(lines, calls.values(), strict=True):
        assert line.startswith(words)


def test_a_second_time_goes_on_counting(own_board):
    """Nothing is overwritten; a folder that cannot be written is said, with the camera off."""
    flash = own_board.flash
    for folder in ("frames", "lib", "pictures/cat"):
        (flash / folder).mkdir(parents=True, exist_ok=True)
    (flash / "pictures" / "cat" / "0007.pgm").write_bytes(b"")
    (flash / "frames" / "grey.bin").write_bytes(bytes(WIDTH * HEIGHT))
    (flash / "lib" / "camera.py").write_text(FAKE.format(wait=INTERRUPT, names=[], barless=False))
    shutil.copy(FIRMWARE / "collect.py", flash)
    script = "import collect\nkeys = list('11q')\ncollect.pictures('cat', 'dog', grey=True, key=lambda: keys.pop(0))"
    for count in (3, 5):
        result = own_board.mpremote("exec", script)
        assert f"cat {count}, dog 0\n" in result.stdout, result.stdout
        assert len(list((flash / "pictures" / "cat").iterdir())) == count
    (flash / "pictures" / "dog").rmdir()
    (flash / "pictures" / "dog").write_bytes(b"")
    result = own_board.mpremote("exec", script.replace("11q", "21q"))
    assert "Traceback" not in result.stdout and "camera off" in result.stdout, result.stdout
    assert "collect: pictures cannot be written: " in result.stdout


# A pin with a clock of its own, so that no slow machine changes what is seen: levels for so many ms, then Ctrl-C.
PIN = """
import collect
class Pin:
    def __init__(self, levels):
        self.levels, self.now = levels, 0
    def value(self):
        self.now += collect.PERIOD
        left = self.now
        for ms, level in self.levels:
            left -= ms
            if left <= 0:
                return level
        raise KeyboardInterrupt
pin = Pin({levels})
collect.ticks_ms = lambda: pin.now
collect.pictures("cat", "dog", grey=True, button=pin)
"""
UP, DOWN = 1, 0
PRESS = [(5, DOWN), (5, UP), (10, DOWN), (5, UP), (120, DOWN), (5, UP), (10, DOWN), (200, UP)]  # bounces twice
NOISE = [(20, DOWN), (300, UP)]
HELD = [(10, DOWN), (5, UP), (2500, DOWN), (10, UP), (5, DOWN), (200, UP)]


@pytest.mark.parametrize(
    ("levels", "taken"),
    [
        (PRESS, "cat"),
        (PRESS + PRESS, "cat cat"),
        (NOISE, ""),
        (HELD, "> dog"),
        (PRESS + HELD + PRESS + NOISE + PRESS + HELD + PRESS, "cat > dog dog dog > cat cat"),
        ([(400, DOWN), (100, UP), *PRESS], "cat"),
        ([(3000, DOWN), (100, UP), *HELD], "> dog"),
    ],
    ids=["press", "two", "noise", "held", "all", "down-at-the-start", "held-at-the-start"],
)
def test_a_button_takes_pictures_and_passes_on_to_the_next_class(own_board, levels, taken):
    """Once for each press however its contacts bounce; kept apart from what was held since before the script began."""
    flash = own_board.flash
    for folder in ("frames", "lib"):
        (flash / folder).mkdir(exist_ok=True)
    (flash / "frames" / "grey.bin").write_bytes(bytes(WIDTH * HEIGHT))
    names = ["grey.bin"] * 9
    (flash / "lib" / "camera.py").write_text(FAKE.format(wait=INTERRUPT, names=names, barless=False))
    shutil.copy(FIRMWARE / "collect.py", flash)
    said = own_board.mpremote("exec", PIN.format(levels=[(50, UP), *levels] if levels[0][0] < 400 else levels)).stdout
    assert "button: press it for a picture of cat, hold it for the next class\n" in said, said
    found = re.findall(r"^(?:pictures/(cat|dog)/\S+: \d+ more fit|button: (cat|dog))$", said, re.MULTILINE)
    expected = taken.replace("> ", ">").split()
    assert [picture or ">" + turn for picture, turn in found] == expected
    for label in ("cat", "dog"):
        assert len(list((flash / "pictures" / label).iterdir())) == expected.count(label)
    assert "Traceback" not in said and said.count("camera off") == 1


def test_keys_work_beside_a_button(camera):
    """At the terminal; the pin is never pressed."""
    with Terminal.of(camera.path) as terminal:
        terminal.fresh_prompt()
        for line in (b"import collect", b"p = type('Pin', (), {'value': lambda self: 1})()"):
            terminal.send(line + b"\r")
            terminal.read_until(b">>> ")
        terminal.send(b"collect.pictures('one', 'two', button=p, order='little')\r")
        terminal.read_until(b"q: end\r\n")
        terminal.send(b"q")
        assert b"camera off" in terminal.read_until(b">>> ")
        terminal.send(b"collect.pictures('one', 'two', button='GPIO0')\r")
        terminal.read_until(b"collect: button: 'GPIO0', must be the number of a GPIO (")
