# SPDX-License-Identifier: MIT
"""classify.py and tinker.py as users run them, and their error messages."""

import re

import pytest

from host_sim.boards.client import Board
from tests.conftest import ROOT

FIRMWARE = ROOT / "firmware"


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


def test_classify_with_a_model_that_is_not_there(board):
    board.mpremote("fs", "cp", FIRMWARE / "classify.py", ":classify.py")
    script = "exec(open('classify.py').read().replace('MODEL = None', 'MODEL = \"models/none.safetensors\"', 1))"
    line = "classify.py: MODEL: models/none.safetensors cannot be opened; it must be a file on the board\n"
    assert board.mpremote("exec", script).stdout == line


def test_classify_leaves_out_a_picture_that_is_not_there(board):
    board.mpremote("fs", "cp", FIRMWARE / "classify.py", ":classify.py")
    names = '["images/none.pgm", "images/8_bag.pgm"]'
    script = f"exec(open('classify.py').read().replace('PICTURES = None', 'PICTURES = {names}', 1))"
    output = board.mpremote("exec", script).stdout
    assert re.search(r"left out: \[Errno 2\] .*images/none\.pgm cannot be opened", output)
    assert output.endswith("1 of 1 right\n")


@pytest.mark.parametrize(
    ("heap", "words"),
    [
        ("160K", r"needs \d+ bytes, \d+ are free"),
        ("218K", r"needs \d+ bytes in one piece, \d+ are free, but scattered"),
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
