# SPDX-License-Identifier: MIT
"""classify.py and tinker.py as users run them, and their error messages."""

import ast
import os
import re
import shutil
import time

import pytest

from host_sim.boards.client import Board
from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware"
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def test_classify(board):
    result = board.mpremote("run", FIRMWARE / "classify.py")
    assert result.returncode == 0, result.stdout
    assert len(re.findall(r"images/\d_.*\.pgm: [\d.]+ ms", result.stdout)) == 10
    assert re.search(r"RAM: \d+ bytes", result.stdout)
    assert int(re.search(r"(\d+) of 10 right\s*$", result.stdout)[1]) >= 8


def test_classify_from_a_mounted_folder(board):
    result = board.mpremote("mount", FIRMWARE, "run", FIRMWARE / "classify.py", timeout=120)
    assert result.returncode == 0, result.stdout
    assert "of 10 right" in result.stdout


def test_tinker(board):
    result = board.mpremote("run", FIRMWARE / "tinker.py")
    assert result.returncode == 0, result.stdout
    assert "layer by layer, the same logits: Ankle boot" in result.stdout
    assert "everything back, bit for bit" in result.stdout
    assert re.search(r"\[384 x 96 weights, \d+\.\d % zero\]", result.stdout)
    external = [int(count) for count in re.findall(r"PSRAM: (\d+) bytes", result.stdout)]
    assert external[0] == 0 < external[1], result.stdout
    assert "within 24576 bytes:" in result.stdout


@pytest.mark.parametrize(("folder", "what"), [("models", "model (.safetensors)"), ("images", "pictures (.pgm, .ppm)")])
def test_classify_without_files_says_what_to_copy_where(board, folder, what):
    script = f"""
import os
os.rename("{folder}", "elsewhere")
try:
    exec(open("classify.py").read())
    os.mkdir("{folder}")
    exec(open("classify.py").read())
finally:
    os.rmdir("{folder}")
    os.rename("elsewhere", "{folder}")
"""
    board.mpremote("fs", "cp", FIRMWARE / "classify.py", ":classify.py")
    result = board.mpremote("exec", script)
    ways = f"mpremote mkdir :{folder}, then mpremote cp FILE :{folder}/; or just deploy PORT MODEL"
    line = f"classify.py: no {what} in {folder}/ or /rom/{folder}/: {ways}\n"
    assert (result.returncode, result.stdout) == (0, 2 * line)


def given(**constants):
    """The line of `mpremote exec` that sets constants of classify.py."""
    return "; ".join(f"{name} = {value!r}" for name, value in constants.items())


def classified(board, **constants):
    """Lines of classify.py with these constants, given without editing."""
    result = board.mpremote("exec", given(**constants), "run", FIRMWARE / "classify.py")
    assert result.returncode == 0, result.stdout
    return result.stdout.splitlines()


def left_out(lines):
    return [line.removeprefix("left out: ") for line in lines if line.startswith("left out: ")]


def test_model_and_pictures_are_given_without_editing(own_board):
    shutil.copy(FIRMWARE / "images" / "8_bag.pgm", own_board.flash / "one.pgm")
    lines = classified(own_board, MODEL="models/fashion_mnist.safetensors", PICTURES="one.pgm")
    assert lines[0].startswith("models/fashion_mnist.safetensors: 10 classes")
    assert [line for line in lines if line.startswith("one.pgm: ")]
    lines = classified(own_board, PICTURES=["images/8_bag.pgm", "images/1_trouser.pgm"])
    assert lines[-1] == "2 of 2 right"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("models/none.safetensors", "models/none.safetensors cannot be opened"),
        ("images/8_bag.pgm", "images/8_bag.pgm: header length: "),
    ],
)
def test_classify_with_a_model_that_is_none(board, model, words):
    [line] = classified(board, MODEL=model)
    assert line.startswith(f"classify.py: MODEL: {words}") and line.endswith("; it must be a model file on the board")


def test_the_newest_model_is_taken(own_board):
    models = own_board.flash / "models"
    for name in ("a", "z"):
        shutil.copy(models / "fashion_mnist.safetensors", models / f"{name}.safetensors")
    for name, age in (("a", 30), ("fashion_mnist", 10), ("z", 20)):
        os.utime(models / f"{name}.safetensors", (time.time() - age,) * 2)
    lines = classified(own_board)
    assert lines[0].endswith(" models in models/: the newest for such pictures is taken, MODEL chooses another")
    assert lines[1].startswith("models/fashion_mnist.safetensors: ")


def test_a_model_for_pictures_of_another_size_is_not_taken(own_board):
    """Newer ones for colour pictures, and one that is none, beside the one that is for the pictures in images/."""
    models = own_board.flash / "models"
    (models / "broken.safetensors").write_bytes(b"nothing")
    for name, age in (("fashion_mnist", 30), ("eyes", 10), ("broken", 20)):
        os.utime(models / f"{name}.safetensors", (time.time() - age,) * 2)
    lines = classified(own_board)
    assert lines[0].endswith(" models in models/: the newest for such pictures is taken, MODEL chooses another")
    assert lines[1].startswith("models/fashion_mnist.safetensors: ")


def test_each_model_file_is_checked_once(own_board):
    """The newest one fits: no other is opened, and it is not opened again. A link to nowhere is no model."""
    models = own_board.flash / "models"
    os.utime(models / "eyes.safetensors", (time.time() - 30,) * 2)
    os.utime(models / "fashion_mnist.safetensors", (time.time() - 10,) * 2)
    (models / "gone.safetensors").symlink_to("nowhere")
    counted = """
import ftervit.modelfile as modelfile
uncounted = modelfile.map_file
def counting(path):
    print("opened", path)
    return uncounted(path)
modelfile.map_file = counting
"""
    result = own_board.mpremote("exec", counted, "run", FIRMWARE / "classify.py")
    assert re.findall(r"^opened (.*)$", result.stdout, re.MULTILINE) == ["models/fashion_mnist.safetensors"]
    assert "10 of 10 right" in result.stdout


def test_what_is_no_picture_is_named_and_ends_nothing(own_board):
    images = own_board.flash / "images"
    for path in images.iterdir():
        path.unlink()
    shutil.copy(FIRMWARE / "images" / "8_bag.pgm", images / "8_BAG.PGM")
    (images / "folder.pgm").mkdir()
    (images / "cut.pgm").write_bytes(b"P5 28 28 255\n" + bytes(9))
    (images / "crlf.pgm").write_bytes(b"P5\r\n28 28\r\n255\r\n" + bytes(784))
    (images / "notes.txt").write_text("x")
    (images / "photo.JPG").write_bytes(b"\xff\xd8\xff\xe0")
    (images / "gone.ppm").symlink_to("nowhere")
    (images / "._8_bag.pgm").write_bytes(b"x")  # what a Mac leaves
    lines = classified(own_board)
    assert lines[-1] == "1 of 1 right"
    assert any(line.startswith("images/8_BAG.PGM: ") for line in lines)
    assert left_out(lines) == [
        "images/notes.txt: no name of a picture, which ends with .pgm, .ppm, .jpg, .jpeg",
        "images/crlf.pgm: CR LF after the header, where one byte of white space must stand",
        "images/cut.pgm: 9 bytes of pixels, needs 784",
        "images/folder.pgm is a folder",
        "images/gone.ppm cannot be opened",
        "images/photo.JPG: a JPEG, which is not decoded here; on the PC `trainer image` makes a PPM of it",
    ]


def test_classify_leaves_out_a_picture_that_is_not_there(board):
    lines = classified(board, PICTURES=["images/none.pgm", "images/8_bag.pgm"])
    assert left_out(lines) == ["images/none.pgm cannot be opened"]
    assert lines[-1] == "1 of 1 right"


TENS = ("1", "10", "2")
STEPS = ("step 1", "step 10", "step 2")
PETS = ("Cat", "cat house", "dog", "gro\xdfer Hund", "\U0001f431")
RIGHT = (
    (FASHION, "images/7_sneaker.pgm", "Sneaker"),
    (FASHION, "7_x.pgm", "Sneaker"),
    (FASHION, "0_t-shirt_top.pgm", "T-shirt/top"),
    (FASHION, "6_shirt.pgm", "Shirt"),
    (FASHION, "Ankle Boot 3.PGM", "Ankle boot"),
    (FASHION, "10_x.pgm", None),
    (FASHION, "x.pgm", None),
    (FASHION, "bags.pgm", None),
    # By label before by number.
    (FASHION, "7_bag.pgm", "Bag"),
    (TENS, "2_x.ppm", "2"),
    (TENS, "10.ppm", "10"),
    (TENS, "1-3.ppm", "1"),
    (TENS, "0_x.ppm", "1"),
    # Numbers count as people sort: step 1, step 2, step 10.
    (STEPS, "1_x.ppm", "step 2"),
    (STEPS, "2_x.ppm", "step 10"),
    (STEPS, "step_10_7.ppm", "step 10"),
    (PETS, "cat_0003.ppm", "Cat"),
    (PETS, "cat_house_0003.ppm", "cat house"),
    (PETS, "pictures/dog/0001.ppm", "dog"),
    (PETS, "gro\xdfer_hund-1.ppm", "gro\xdfer Hund"),
    (PETS, "\U0001f431-1.ppm", "\U0001f431"),
    (PETS, "7_x.ppm", None),
)


def test_right_classes(board):
    """By label and by number, on MicroPython and CPython alike."""
    functions = (FIRMWARE / "classify.py").read_text().partition("def classify(")[0]
    script = f"{functions}\nprint([right_class(path, labels) for labels, path, _ in {RIGHT!a}])"
    expected = [label for _, _, label in RIGHT]
    result = board.mpremote("exec", script)
    assert ast.literal_eval(result.stdout) == expected
    names: dict = {}
    exec(functions, names)
    assert [names["right_class"](path, labels) for labels, path, _ in RIGHT] == expected


@pytest.mark.parametrize(
    ("heap", "words"),
    [
        ("160K", r"needs \d+ bytes, \d+ are free"),
        ("236K", r"needs \d+ bytes in one piece, \d+ are free, but scattered"),
    ],
)
def test_too_small_a_heap_is_refused_with_both_numbers(program, heap, words):
    with Board(program=program, heap=heap) as small:
        result = small.mpremote(
            "exec", "from ftervit import VisionTransformer as V; V.load('models/fashion_mnist.safetensors')"
        )
    assert re.search(r"MemoryError: models/fashion_mnist\.safetensors: " + words, result.stdout), result.stdout


def test_an_inference_can_be_repeated_without_losing_memory(board):
    script = """
import gc
from ftervit import VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
picture = model.preprocess(read_image("images/0_t-shirt_top.pgm"))
model(picture); gc.collect(); before = gc.mem_alloc()
for _ in range(200): model(picture)
gc.collect(); print("grown by", gc.mem_alloc() - before)
"""
    assert int(board.mpremote("exec", script).stdout.removeprefix("grown by ")) <= 0
