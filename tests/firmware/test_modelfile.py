# SPDX-License-Identifier: MIT
"""The reader of the model file: good files, damaged files on host and board, random damage."""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import time

import ftervit
import pytest
from ftervit import architecture, modelfile

from host_sim.boards.client import Board
from host_sim.fuzz.modelfiles import split, with_crc
from tests.conftest import ROOT
from tests.firmware.damage import DAMAGES, HOSTILE, STEM_DAMAGES, metadata

SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
BOARD_SCRIPT = """
import os, time
from ftervit import VisionTransformer
for name in sorted(os.listdir("damaged")):
    started = time.ticks_ms()
    try:
        VisionTransformer.load("damaged/" + name)
        print(name, "| loaded")
    except Exception as error:
        print(name, "|", type(error).__name__, "|", time.ticks_diff(time.ticks_ms(), started), "|", error)
"""


FIELDS = {f"odd, {name}": field for name, (_, field) in DAMAGES.items()}
FIELDS |= {f"stem, {name}": field for name, (_, field) in STEM_DAMAGES.items()}
FIELDS |= {f"hostile, {name}": field for name, (_, field) in HOSTILE.items()}
AT_ONCE = 2  # seconds, on a busy machine


@pytest.fixture(scope="module")
def damaged(odd_model, stem_model, tmp_path_factory):
    """A folder that mounts as a board's root: damaged/NNN.safetensors in the order of FIELDS."""
    root = tmp_path_factory.mktemp("mounted")
    (root / "damaged").mkdir()
    odd, stem = odd_model.read_bytes(), stem_model.read_bytes()
    contents = [damage(odd) for damage, _ in DAMAGES.values()] + [damage(stem) for damage, _ in STEM_DAMAGES.values()]
    contents += [damage(odd) for damage, _ in HOSTILE.values()]
    for index, content in enumerate(contents):
        (root / "damaged" / f"{index:03}.safetensors").write_bytes(content)
    (root / "script.py").write_text(BOARD_SCRIPT)
    return root


@pytest.fixture(scope="module")
def board_with_files(program, damaged):
    """A board whose flash holds them."""
    with Board(program=program, flash=damaged) as board:
        yield board


def message_on_host(path):
    with pytest.raises(ValueError) as caught:
        ftervit.VisionTransformer.load(str(path))
    return str(caught.value)


@pytest.mark.parametrize("index", range(len(FIELDS)), ids=list(FIELDS))
def test_damage_is_refused_with_file_and_field(damaged, index):
    path = damaged / "damaged" / f"{index:03}.safetensors"
    started = time.monotonic()
    message = message_on_host(path)
    assert time.monotonic() - started < AT_ONCE
    assert message.startswith(f"{path}: ")
    message = message.removeprefix(f"{path}: ")
    assert re.search(list(FIELDS.values())[index], message), message
    assert len(message) < 250 and message.isprintable(), message


def test_the_board_says_the_same(damaged, board_with_files):
    result = board_with_files.mpremote("run", damaged / "script.py", timeout=300)
    lines = [line for line in result.stdout.splitlines() if "|" in line]
    assert len(lines) == len(FIELDS), result.stdout
    for line in lines:
        name, kind, milliseconds, message = (part.strip() for part in line.split("|", 3))
        assert kind == "ValueError", line
        on_host = message_on_host(damaged / "damaged" / name)
        assert message == on_host.replace(str(damaged) + "/", ""), line
        assert int(milliseconds) < 1000 * AT_ONCE, line


LABELS = ["\U0001f600 \u00e9\u00e9", '"\\/\b\f\n\r\t', "\u20ac\uffff\U0010ffff", "", "x" * 2000, "\x00\x1f\x7f", "7"]


LIKE_A_LIST = """
from ftervit.modelfile import Labels
names = ["cat", "", "\\U0001f431", "d\\xf6g", "cat"]
labels = Labels(names)
print(len(labels), labels[0] == "cat", labels[-3] == names[2], repr(labels) == repr(names), list(labels) == names)
pairs = [(each[:2], each[1:], each[-2:], each[1:3], each[:9]) for each in (labels, names)]
print([a == b for a, b in zip(*pairs)])
print([labels.index(name) == names.index(name) for name in names])
print(labels == names, names == labels, labels == Labels(names), labels != names, labels != names[1:])
print(labels == names[1:], names[1:] == labels, labels == tuple(names), labels == "cat", labels == None)
print("cat" in labels, "dog" in labels, sorted(labels) == sorted(names))
for wrong in (lambda: labels.index("dog"), lambda: labels[5], lambda: labels[-6]):
    try:
        wrong()
    except (ValueError, IndexError) as error:
        print(type(error).__name__, error)
"""
AS_A_LIST = """\
5 True True True True
[True, True, True, True, True]
[True, True, True, True, True]
True True True False True
False False False False False
True False True
ValueError 'dog' is none of the labels
IndexError label 5 of 5
IndexError label -1 of 5
"""


def test_labels_are_like_a_list(board_with_files, capsys):
    assert board_with_files.mpremote("exec", LIKE_A_LIST).stdout == AS_A_LIST
    exec(LIKE_A_LIST, {})
    assert capsys.readouterr().out == AS_A_LIST


def test_labels_of_any_text_are_the_same_on_host_and_board(odd_model, program, tmp_path):
    (tmp_path / "labels.safetensors").write_bytes(metadata("labels", LABELS)(odd_model.read_bytes()))
    assert list(ftervit.VisionTransformer.load(str(tmp_path / "labels.safetensors")).labels) == LABELS
    with Board(program=program, flash=tmp_path) as board:
        script = (
            "from ftervit import VisionTransformer\n"
            "print([label.encode() for label in VisionTransformer.load('labels.safetensors').labels])"
        )
        assert ast.literal_eval(board.mpremote("exec", script).stdout) == [label.encode() for label in LABELS]


FOLDER = """
import os, sys
from ftervit import VisionTransformer, read_image
try:
    os.mkdir("folder")
except OSError:
    pass
for what in (VisionTransformer.load, read_image):
    try:
        what("folder")
    except OSError as error:
        print(error)
"""


def test_a_folder_is_refused_by_its_name(board, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(FOLDER)
    assert capsys.readouterr().out == "[Errno 21] folder is a folder\n" * 2
    assert board.mpremote("exec", FOLDER).stdout == "[Errno 21] EISDIR: folder is a folder\n" * 2


def test_random_damage_never_passes_unseen(odd_model, tmp_path):
    content = odd_model.read_bytes()
    chance = random.Random(1)
    path = tmp_path / "x.safetensors"
    for _ in range(150):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert str(path) in message_on_host(path)


def test_random_header_damage_with_a_right_crc32_never_crashes(odd_model, tmp_path):
    """A file that passes the checks must still be safe to compute with."""
    content = odd_model.read_bytes()
    header_end = 8 + int.from_bytes(content[:8], "little")
    chance = random.Random(2)
    path = tmp_path / "x.safetensors"
    image = ftervit.Image(bytes(784), 28, 28, 1)
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 3)):
            changed[chance.randrange(8, header_end)] = chance.choice(b'0123456789,[]{}":x-\xb2\xe9')
        path.write_bytes(with_crc(bytes(changed)))
        try:
            model = ftervit.VisionTransformer.load(str(path))
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            continue
        model.predict(image)


def test_missing_file():
    with pytest.raises(OSError, match="nowhere"):
        ftervit.VisionTransformer.load("nowhere.safetensors")


def test_tensors_are_views_of_the_file(odd_model):
    file = ftervit.ModelFile(str(odd_model))
    header, data = split(odd_model.read_bytes())
    begin, end = header["blocks.0.mlp.act.table"]["data_offsets"]
    table = file.tensor("blocks.0.mlp.act.table", "I8", [256])
    assert bytes(table) == data[begin:end]
    assert table.obj is file._data.obj


def test_padding_is_left_out(odd_model):
    file = ftervit.ModelFile(str(odd_model))
    assert len(file.tensor("head.bias", "I32", [7])) == 28


def test_packed_shapes():
    assert architecture.packed_shape([17, 6]) == [2, 2, 16]
    assert architecture.packed_shape([16, 5]) == [1, 1, 16]
    assert architecture.packed_shape([1]) == [1, 16]
    assert architecture.packed_shape([81]) == [2, 16]


def test_what_the_current_directory_lacks_is_looked_for_in_rom(monkeypatch, tmp_path):
    monkeypatch.setattr(modelfile, "ROM", f"{tmp_path}/rom/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rom").mkdir()
    (tmp_path / "rom" / "model").write_bytes(b"in /rom")
    with modelfile.open_named("model") as file:
        assert file.read() == b"in /rom"
    (tmp_path / "model").write_bytes(b"here")
    with modelfile.open_named("model") as file:
        assert file.read() == b"here"
    for name in ("none", "/model", "/none"):
        with pytest.raises(FileNotFoundError, match=f"{name} cannot be opened$"):
            modelfile.open_named(name)


@pytest.fixture
def shipped_copy(tmp_path):
    """A copy of the shipped model."""
    return shutil.copy(SHIPPED, tmp_path / "model.safetensors")


def test_a_file_that_is_cut_while_it_is_open(shipped_copy):
    """A mapped file would end the process by SIGBUS."""
    code = (
        "import os, sys; from ftervit.modelfile import map_file; data = map_file(sys.argv[1]);"
        "os.truncate(sys.argv[1], 0); print(len(bytes(data)))"
    )
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("firmware", "host_sim"))
    done = subprocess.run(
        [sys.executable, "-c", code, shipped_copy],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{SHIPPED.stat().st_size}\n"), done.stderr
