# SPDX-License-Identifier: MIT
"""docs/ten-minutes.md: each command that it shows with output is run, and prints those lines but for numbers.

pytest -s prints what the commands print here. The photos and the backbone are made up.
"""

import os
import re
import shlex
import shutil
import textwrap

import pytest
import torch

from tests.conftest import ROOT
from tests.photos import photograph
from tests.runs import trainer
from tests.tiny import calibrated, small
from trainer.training.checkpoint import save_weights

PAGE = ROOT / "docs" / "ten-minutes.md"
SHOWN = {"blank": "gradient_red", "cup": "circle", "pen": "checker"}  # what the page's labels show here
SIZE = 32
MODEL = {"embed_dim": 48, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
STEM, PATCH = ((24, 3, 2, 1), (32, 3, 2, 1)), (3, 2, 1)
CHANGES = (
    f"data.size={SIZE}",
    "data.workers=0",
    f"model.stem={[list(stage) for stage in STEM]}".replace(" ", ""),
    f"model.patch={list(PATCH)}".replace(" ", ""),
    f"model.options={{{','.join(f'{key}={value}' for key, value in MODEL.items())}}}",
    "compute.threads=1",
)


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
    line = re.sub("|".join(SHOWN), "LABEL", re.sub(r"\s+#+\s*$", "", line))
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
    """An empty folder with photos sorted as the page asks for, and a stand-in for the backbone."""
    root = tmp_path_factory.mktemp("maker")
    for part, numbers in (("train", range(1, 23)), ("test", range(23, 29))):
        for label, shown in SHOWN.items():
            (root / "pictures" / part / label).mkdir(parents=True)
            for number in numbers:
                path = root / "pictures" / part / label / f"{number:02}.jpg"
                photograph(shown, number, 240, 240).save(path, quality=92)
    options = {"img_size": SIZE, "channels": 3, "classes": 7, "stem": STEM, "patch": PATCH, **MODEL}
    student = calibrated(small("backbone", **options), seed=5)
    save_weights(student, root / "backbone.safetensors", student.description(), torch.float32)
    return root


def perform(line, place, board):
    """Run a command of the page in `place`; returns what it printed."""
    program, *words = shlex.split(line)
    own = [f"student.weights={place / 'backbone.safetensors'}", *CHANGES]
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
    (own_board.flash / "models" / "eyes.safetensors").unlink()  # for pictures of 64 x 64, which the stand-in is not
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
