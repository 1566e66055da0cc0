# SPDX-License-Identifier: MIT
"""docs/first-board.md: what it shows beside a command is what the command prints, but for numbers.

tests/test_printed.py gives every command of the page to its program. Nothing is built or flashed for a chip here.
"""

import re
import shlex
import shutil
import time

import numpy as np

from tests.boards import Terminal
from tests.conftest import ROOT
from tests.firmware.test_classify_camera import FAKE, HEIGHT, WIDTH, frame_of
from tests.photos import photograph
from tests.test_walkthrough import in_order, steps

PAGE = (ROOT / "docs" / "first-board.md").read_text()
STEPS = dict(steps(PAGE))
CONNECT = ".venv/bin/mpremote connect PORT "
SELFCHECK, CLASSIFY, REPL = (
    CONNECT + words for words in ("run firmware/selfcheck.py", "run firmware/classify.py", "repl")
)
# The board's button: down while the file /down is there.
MACHINE = """
import os
class Pin:
    IN, PULL_UP = 0, 1
    def __init__(self, *arguments):
        assert arguments == (0, self.IN, self.PULL_UP)
    def value(self):
        return int("down" not in os.listdir("/"))
"""


def run(board, command):
    """The output of a command of the page on a board."""
    words = shlex.split(command.removeprefix(CONNECT))
    result = board.mpremote(words[0], str(ROOT / words[1]), timeout=300)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_page_shows_these_commands():
    assert list(STEPS) == ["just board", "just boards", SELFCHECK, CLASSIFY, REPL]


def test_the_board_checks_itself(board):
    """A line for each backend of this machine, of which the page shows those of one with all of them."""
    said = run(board, SELFCHECK).splitlines()
    assert said and all(line.endswith(": as reference") for line in said)
    assert set(STEPS[SELFCHECK]) >= set(said) - {"neon: as reference", "neon_dot: as reference"}
    assert all(line.endswith(": as reference") for line in STEPS[SELFCHECK])


def test_labels(board):
    assert in_order([line for line in STEPS[CLASSIFY] if line != "..."], run(board, CLASSIFY)) == []


def test_pictures_are_collected(own_board):
    """By the button: a press, and held for the next class."""
    flash = own_board.flash
    for folder in ("frames", "lib"):
        (flash / folder).mkdir(exist_ok=True)
    fake = FAKE.format(wait='name = "cup.bin"', names=["cup.bin"], barless=True).replace(
        "if data_pins:", "if not data_pins:"
    )
    (flash / "lib" / "camera.py").write_text(fake)
    (flash / "lib" / "machine.py").write_text(MACHINE)
    pixels = np.asarray(photograph("circle", 1, WIDTH, HEIGHT))
    (flash / "frames" / "cup.bin").write_bytes(frame_of(pixels, "big"))
    shutil.copy(ROOT / "firmware" / "collect.py", flash)
    typed = [line.removeprefix(">>> ") for line in STEPS[REPL] if line.startswith(">>> ")]
    with Terminal.of(own_board.path) as terminal:
        terminal.fresh_prompt()
        said = b""
        for line in typed[:-1]:
            terminal.send(line.encode() + b"\r")
            said += terminal.read_until(b">>> ")
        terminal.send(typed[-1].encode() + b"\r")
        said += terminal.read_until(b"q: end\r\n", 20)
        (flash / "down").touch()
        time.sleep(0.3)  # shorter than what is held, longer than contacts bounce
        (flash / "down").unlink()
        said += terminal.read_until(b"cup 1, pen 0\r\n", 20)
        (flash / "down").touch()
        said += terminal.read_until(b"button: pen\r\n", 20)
        (flash / "down").unlink()
        terminal.send(b"q")
        said += terminal.read_until(b">>> ")
    text = re.sub(r"pictures/cup/[0-9a-f]{6}", "pictures/cup/SESSION", said.decode())
    shown = [line for line in STEPS[REPL] if not line.startswith(">>> ") and line != "..."]
    expected = [re.sub(r"pictures/cup/[0-9a-f]{6}", "pictures/cup/SESSION", line) for line in shown]
    assert in_order(expected, text) == [], text
    rows = [line for line in STEPS[REPL] if re.fullmatch(r"[ .,:;~+=*o%#@-]{20,}", line)]
    assert len(rows) == 11 and "\r\n".join(rows) in text, text


MESSAGES = {
    "no boards: plug one in, or start a virtual one with just board": "host_sim/boards/list.py",
    "no module ternary: this firmware cannot run models": "host_sim/boards/list.py",
    "10 times in a row no whole frame came": "firmware/ftervit/camera.py",
}


def test_the_messages_of_the_last_table_are_those_of_the_programs():
    assert re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE) == list(MESSAGES)
    for message, path in MESSAGES.items():
        source = (ROOT / path).read_text().replace("`", "").replace("%d times", "10 times")
        assert message in source, path
