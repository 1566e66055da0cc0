# SPDX-License-Identifier: MIT
"""docs/ten-minutes.md, docs/first-board.md: each command after a prompt is run, and prints those lines but for numbers.

pytest -s prints what the commands print here. The photos, the camera and the button are made up.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from host_sim.boards.list import announced
from tests.boards import Terminal
from tests.conftest import ROOT
from tests.firmware.test_classify_camera import FAKE, HEIGHT, INTERRUPT, WIDTH, frame_of
from tests.photos import photograph
from tests.runs import trainer

PAGE = ROOT / "docs" / "ten-minutes.md"
FIRST_BOARD = ROOT / "docs" / "first-board.md"
SHOWN = {"blank": "gradient_red", "cup": "circle", "pen": "checker"}  # what the page's labels show here


def steps(text):
    """(command, the lines of output shown) of each line that begins with a prompt in indented blocks."""
    found = []
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE):
        lines = textwrap.dedent(block.strip("\n")).splitlines()
        for line in lines if lines[0].startswith("$ ") else ():
            if line.startswith("$ "):
                found.append((line[2:].partition("   #")[0], []))
            elif line.strip():
                found[-1][1].append(line)
    return found


PICTURE = re.compile(r"[ .,:;~+=*o%#@-]+")  # a row of a picture of text


def masked(line):
    """A line without its numbers, bars, labels and the width of its columns; "" of a row of a picture."""
    if PICTURE.fullmatch(line):
        return ""
    line = re.sub(r" at [0-9a-f]+>$", " at ADDRESS>", line)
    line = re.sub(r"/[0-9a-f]{6}-(?=\d{4}\.)", "/SESSION-", line)
    line = re.sub("|".join([*SHOWN, "unknown"]), "LABEL", re.sub(r"\s+#+\s*$", "", line))
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,]*", "#", line)).strip()


def in_order(shown, printed):
    """The lines shown that are not printed, in this order."""
    rest, missing = iter([masked(line) for line in printed.splitlines()]), []
    for line in shown:
        if masked(line) and masked(line) not in rest:
            missing.append(line)
            break
    return missing


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder with photos sorted as the page asks for."""
    root = tmp_path_factory.mktemp("maker")
    for part, numbers in (("train", range(1, 23)), ("test", range(23, 29))):
        for label, shown in SHOWN.items():
            (root / "pictures" / part / label).mkdir(parents=True)
            for number in numbers:
                path = root / "pictures" / part / label / f"{number:02}.jpg"
                photograph(shown, number, 240, 240).save(path, quality=92)
    return root


def perform(line, place, board):
    """Run a command of the page in `place`; returns what it printed."""
    program, *words = shlex.split(line)
    weights = ROOT / "trainer" / "checkpoints" / "eyes" / "student.fp32.safetensors"
    own = [f"student.weights={weights}", "data.workers=0", "compute.threads=1"]
    config = ["--config", ROOT / "trainer" / "configs" / "my_pictures.toml"]
    words = [word for word in words if word not in ("--config", "trainer/configs/my_pictures.toml")]
    if program == "just" and words[0] == "train":
        said = trainer("train", *config, "--run", place / "build/train/my_pictures", *words[1:], *own)
    elif program == "just" and words[0] == "eval":
        said = trainer("evaluate", *config, *words[1:], "--output", place / "eval.json", *own)
    elif program == "just" and words[0] == "board":
        return board.path
    elif program.endswith("trainer"):
        said = trainer(*words)
    else:
        assert program.endswith("mpremote") and words[0] == "connect", line
        words = [str(ROOT / word) if word.startswith("firmware/") else word for word in words[2:]]
        result = board.mpremote(*words, timeout=300)
        assert result.returncode == 0, result.stdout
        said = result.stdout
    return said.replace(f"{place}/", "")


def test_the_page_shows_what_is_printed(place, own_board, monkeypatch):
    monkeypatch.chdir(place)
    found = steps(PAGE.read_text())
    assert [shlex.split(line)[0].rpartition("/")[2] for line, _ in found] == [
        *("just", "just", "trainer", "just", "mpremote", "mpremote", "mpremote")
    ]
    for line, shown in found:
        printed = perform(line, place, own_board)
        print(f"$ {line}\n{printed}")
        assert in_order(shown, printed) == [], printed
        assert shown, line
    assert os.path.exists(place / "build/train/my_pictures/my_pictures.safetensors")
    shutil.rmtree(place / "build")


def test_lines_are_compared_but_for_numbers():
    text = "1. Do\n\n       $ a\n         b\n\ntext\n\n"
    text += "    $ just x   # says\n    a 1.5 %\n\n    b\n\ntext\n\n    pictures/a\n"
    assert steps(text) == [("a", ["  b"]), ("just x", ["a 1.5 %", "b"])]
    assert in_order(["a 1.5 %", "b   2"], "z\na 77 %\nb 3\n") == []
    assert in_order(["b 2", "a 1 %"], "a 77 %\nb 3\n") == ["a 1 %"]
    assert in_order(["a right"], "a wrong\n") == ["a right"]
    assert in_order(["  ,;~==", "  cup  73.5 %  ####", "1 of 1 right"], "x\n pen 9 %\n\n2 of 3 right\n") == []


@pytest.mark.parametrize("page", ["README.md", "docs/tinkering.md"])
def test_lines_at_the_prompt_print_what_pages_show(board, page):
    """Typed one after the other on one board, from all blocks of the page."""
    blocks = [
        block for block in re.findall(r"(?:^ {4}.*\n)+", (ROOT / page).read_text(), re.MULTILINE) if ">>> " in block
    ]
    lines = textwrap.dedent("".join(blocks)).splitlines()
    lines = lines[[line[:4] for line in lines].index(">>> ") :]
    printed = typed(board, lines)
    print(printed)
    assert "Traceback" not in printed
    assert in_order(lines, printed) == [], printed


# A push button with a clock of its own: one press, one hold, Ctrl-C. Levels for so many ms, 0 while it is down.
MACHINE = """
import collect
class Pin:
    IN, PULL_UP = 0, 1
    def __init__(self, number, mode, pull):
        assert (number, mode, pull) == (0, Pin.IN, Pin.PULL_UP)
        self.now = 0
        collect.ticks_ms = lambda: self.now
    def value(self):
        self.now += collect.PERIOD
        left = self.now
        for ms, level in ((50, 1), (150, 0), (200, 1), (1500, 0), (200, 1)):
            left -= ms
            if left <= 0:
                return level
        raise KeyboardInterrupt
"""


@pytest.fixture
def board_with_camera(own_board):
    """A board with a button at GPIO 0, and the XIAO's camera before a bright disc."""
    flash = own_board.flash
    for folder in ("frames", "lib"):
        (flash / folder).mkdir(exist_ok=True)
    pixels = np.asarray(photograph("circle", 1, WIDTH, HEIGHT))
    (flash / "frames" / "colour.bin").write_bytes(frame_of(pixels, "big"))
    fake = FAKE.format(wait=INTERRUPT, names=[], barless=False)
    answers, count = re.subn(r"if data_pins:", "if data_pins != [15, 17, 18, 16, 14, 12, 11, 48]:", fake)
    assert count == 1
    (flash / "lib" / "camera.py").write_text(answers)
    (flash / "lib" / "machine.py").write_text(MACHINE)
    shutil.copy(ROOT / "firmware" / "collect.py", flash)  # which `just deploy` writes
    return own_board


def typed(board, shown):
    """What the board prints when the lines with a prompt are typed."""
    said = b">>> "
    with Terminal.of(board.path) as terminal:
        terminal.fresh_prompt()
        terminal.send(b"print(6 * 7)\r")  # behind all that earlier clients were told
        terminal.read_until(b"\n42\r\n>>> ")
        for line in shown:
            if line.startswith(">>> "):
                terminal.send(line[4:].encode() + b"\r")
                said += terminal.read_until(b">>> ", 60)
    return said.decode().replace("\r\n", "\n")


def on_the_board(line, shown, board):
    """Run a command of FIRST_BOARD; returns what it printed."""
    program, *words = shlex.split(line)
    if line == "just board":
        return board.path
    if line == "just boards":
        with announced(board.path, "virtual, unix port"):
            listed = [sys.executable, "-m", "host_sim.boards.list"]
            return subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    assert program == ".venv/bin/mpremote" and words[:2] == ["connect", "PORT"], line
    if words[2:] == ["repl"]:
        return typed(board, shown)
    result = board.mpremote(*words[2:], timeout=120)
    assert result.returncode == 0, result.stdout
    return result.stdout


def masked_board(line):
    """A line of `just boards` without what differs between machines: compiler, backends."""
    return re.sub(r"(ternary: |linux ).*", r"\1#", line)


def of_this_machine(lines):
    """Lines without the names of backends, which differ between processors: one line for all of them."""
    return list(dict.fromkeys(re.sub(r"\w+: as reference$", "BACKEND: as reference", line) for line in lines))


def test_a_virtual_board_shows_what_the_first_board_will(board_with_camera, tmp_path, monkeypatch):
    text = FIRST_BOARD.read_text()
    found = steps(text)
    assert [line.rpartition("PORT ")[2] for line, _ in found] == [
        *("just board", "just boards", "run firmware/selfcheck.py", "run firmware/classify.py", "repl")
    ]
    for line, shown in found:
        printed = on_the_board(line, shown, board_with_camera)
        print(f"$ {line}\n{printed}")
        if line.endswith("selfcheck.py"):
            assert set(of_this_machine(printed.splitlines())) == set(of_this_machine(shown))
        elif line == "just boards":
            lines = "\n".join(map(masked_board, printed.splitlines()))
            assert in_order([masked_board(row) for row in shown], lines) == [], printed
        else:
            assert in_order(shown, printed) == [], printed
        assert shown, line
    [copied] = re.findall(r"^ +\.venv/bin/mpremote connect PORT (cp .*)$", text, re.MULTILINE)
    result = board_with_camera.mpremote(*copied.split()[:-1], f"{tmp_path}/")
    assert result.returncode == 0, result.stdout
    assert [len(list((tmp_path / "pictures" / label).glob("*.ppm"))) for label in ("cup", "pen")] == [1, 0]


def test_what_first_board_says_of_failures_is_printed():
    """The left column of its last table, by the program that says so."""
    rows = re.findall(r"^\| `(.*?)` \|", FIRST_BOARD.read_text(), re.MULTILINE)
    assert len(rows) == 3
    said = (ROOT / "host_sim" / "boards" / "list.py").read_text().replace("`", "")
    said += (ROOT / "firmware" / "ftervit" / "camera.py").read_text().replace("%d times in a row", "10 times in a row")
    assert [row for row in rows if row not in said] == []
