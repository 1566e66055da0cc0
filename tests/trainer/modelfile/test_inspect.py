# SPDX-License-Identifier: MIT
"""What `trainer inspect` counts, against counts of the trits that went into the file and of the file's bytes."""

import json
import random
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from host_sim.fuzz.modelfiles import DEEP, mutated
from tests.conftest import ROOT
from tests.tiny import COLOUR, calibrated
from trainer.cli import main
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate
from trainer.model.layers import TernaryLayerNorm, ternary_modules
from trainer.model.pixels import Pixels
from trainer.model.student import Blueprint, Student
from trainer.model.vit import ModelSettings
from trainer.modelfile.export import Entry, Exporter, Int8Head, export, model_file_bytes
from trainer.modelfile.inspect import Forward, group_of, inspect, ruled

# Sizes that are no multiples of 16 or 5, a stem, two heads.
BLUEPRINT = Blueprint(
    "odd",
    ModelSettings(
        "vit_tiny_patch16_224",
        {"embed_dim": 22, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5},
        [[5, 3, 2, 1], [7, 3, 1, 1]],
        [3, 2, 1],
    ),
    20,
    ("one", "two", "three"),
    Pixels((0.3,), (0.4,)),
)


def write(tensors, metadata, path):
    path.write_bytes(model_file_bytes(tensors, metadata))
    return path


@pytest.fixture(scope="module")
def exporter():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    student = Student(BLUEPRINT).eval()
    calibrate(student, torch.randint(0, 256, (8, 20, 20, 1), dtype=torch.uint8))
    exporter = Exporter(student)
    exporter.run()
    return exporter


@pytest.fixture(scope="module")
def path(exporter, tmp_path_factory):
    return write(exporter.tensors, exporter.metadata(), tmp_path_factory.mktemp("model") / "odd.safetensors")


def expected(student):
    """(elements, zeros) of each group, from the student's layers."""
    counts, network = {}, student.arithmetic
    for name, layer in ternary_modules(student.vit).items():
        # What folds into a layer may turn or silence channels, see integer.linear.Effective.
        trits = layer.trits()[0] if isinstance(layer, TernaryLayerNorm) else network.effective(name).trits
        size, zeros = counts.get(group_of(f"{name}.weight"), (0, 0))
        counts[group_of(f"{name}.weight")] = size + trits.numel(), zeros + int((trits == 0).sum())
    return counts


def test_trits_and_zeros_of_each_group_are_those_of_the_student(exporter, path):
    found = {group.name: (group.ternary, group.zeros) for group in inspect(path).groups if group.ternary}
    assert found == expected(exporter.student)
    assert set(found) >= {"stem", "patch_embed", "layer norms", "head"}


def test_everything_is_ternary_and_the_reader_agrees(path):
    found = inspect(path)
    assert found.ternary_share == 1
    assert not found.refused
    assert not found.unternary
    assert "ternary, 100 %" in found.text()


def test_bytes_add_up_to_the_file(path):
    found = inspect(path)
    assert found.total.bytes == found.size == path.stat().st_size
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    header = {group.name: group.bytes for group in found.groups}["header and labels"]
    assert header == 8 + len(path.read_bytes()[8 : 8 + length].rstrip())


def test_parameters_are_weights_norms_embeddings_and_biases(exporter, path):
    vit = exporter.student.vit
    size = sum(parameter.numel() for name, parameter in vit.named_parameters() if ".bn." not in name)
    # The stem's convolutions have no bias of their own: BatchNorm gives them one. The position of the class token is
    # added to the token.
    size += 5 + 7 - vit.embed_dim
    assert inspect(path).total.parameters == size


def test_json_holds_the_table(path):
    values = json.loads(json.dumps(inspect(path).as_json()))
    assert sum(group["bytes"] for group in values["groups"]) == values["bytes"]
    assert sum(group["share"] for group in values["groups"]) == pytest.approx(1)
    assert values["ternary"] == values["weights"] == sum(group["ternary"] for group in values["groups"])
    assert values["architecture"]["name"] == "odd"


def test_bits_per_weight(path):
    found = inspect(path)
    spent = 8 * sum(group.bytes for group in found.groups if group.ternary)
    assert found.bits_per_weight == spent / found.total.ternary > 1.58


def test_multiply_accumulates(path):
    side, width, hidden, tokens = 10, 22, 33, 26
    macs = side**2 * (5 * 9 * 1 + 7 * 9 * 5) + 25 * width * 9 * 7
    macs += 2 * (tokens * (3 * width**2 + width**2 + 2 * width * hidden) + 2 * tokens**2 * width) + 3 * width
    assert inspect(path).forward == Forward(tokens, macs)


def test_sizes_of_version_1_without_stem_and_strides():
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": 96, "depth": 6, "mlp_hidden": 384}
    assert Forward.of({**sizes, "num_classes": 10}) == Forward(17, 11_689_536)


@pytest.mark.parametrize("name", ["blocks.1.mlp.fc1.weight", "blocks.0.norm2.bias", "extra"])
def test_a_matrix_that_is_not_packed_counts_as_not_ternary(exporter, tmp_path, name):
    plain = Entry([2, 16], np.ones((2, 16), np.int8))
    if name in exporter.tensors:
        shape = exporter.tensors[name].shape
        plain = Entry(shape, np.zeros(-(-int(np.prod(shape)) // 16) * 16, np.int8))
    metadata = exporter.metadata()
    metadata["shapes"] = json.dumps({**json.loads(metadata["shapes"]), name: plain.shape}, separators=(",", ":"))
    path = write({**exporter.tensors, name: plain}, metadata, tmp_path / "plain.safetensors")
    found = inspect(path)
    assert found.ternary_share < 1
    assert found.unternary == [name]
    assert found.refused
    assert "ternary, 100 %" not in found.text()
    assert found.total.bytes == found.size


def test_shipped_model():
    found = inspect(ROOT / "firmware" / "models" / "fashion_mnist.safetensors")
    assert found.ternary_share == 1
    assert found.total.bytes == found.size


def test_columns_line_up():
    assert ruled([["a", "n"], ["long", "1"], ["sum", "10"]]).splitlines() == [
        "a      n",
        "--------",
        "long   1",
        "--------",
        "sum   10",
    ]


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(TrainerError, match=r"nowhere.safetensors: not found; `trainer train`"):
        inspect(tmp_path / "nowhere.safetensors")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(TrainerError, match="text: not a model file"):
        inspect(tmp_path / "text")
    save_file({"weight": np.zeros(4, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainerError, match="metadata format is not ftervit"):
        inspect(tmp_path / "other.safetensors")


# Hostile files.


def test_hostile_files_are_tables_or_one_line(path, tmp_path, capsys, monkeypatch):
    """With the right CRC; whatever else is refused, nothing is a traceback."""
    generator, content, target = random.Random(14), path.read_bytes(), tmp_path / "hostile.safetensors"
    monkeypatch.setattr("sys.argv", ["trainer", "inspect", str(target)])
    counts = {0: 0, 1: 0}
    for number in range(700):
        target.write_bytes(mutated(generator, content))
        try:
            status = main()
        except Exception as error:
            raise AssertionError(f"file {number}: {error!r}") from error
        counts[status] += 1
        said = capsys.readouterr()
        if status:
            assert said.err.startswith(f"trainer: {target}: ")
            assert said.err.count("\n") == 1
            assert len(said.err) < 2500
        else:
            assert "the shipped reader" in said.out
    assert min(counts.values()) > 70


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("architecture", "[]", "architecture: must be a JSON object"),
        ("architecture", "{}", "architecture img_size: None is not a whole number"),
        ("architecture", DEEP, "architecture: more than 4 nested lists and objects"),
        ("shapes", "[]", "shapes: must be a JSON object"),
        ("shapes", '{"head.weight":[1e9]}', "shapes head.weight: 1e9 is not a whole number"),
        ("shapes", '{"head.weight":[+9]}', "shapes head.weight: '+9' is not JSON"),
        ("shapes", '{"head.weight":[1_6]}', "shapes head.weight: expected , or ], not '_6]}'"),
        ("shapes", '{"head.weight":[1],"head.weight":[1]}', "shapes: 'head.weight' occurs twice"),
        ("shapes", '{"head.weight":[%s]}' % ("9" * 900_000), "shapes head.weight: 9999999999"),
        ("shapes", '{"head.weight":[%s1]}' % ("1," * 90_000), "shapes head.weight: a list of more than 16"),
        ("shapes", "x", "shapes: 'x' is not JSON"),
        ("architecture", '{"img_size":%s}' % ("9" * 900_000), "architecture img_size: 9999999999"),
        ("architecture", f'{{"img_size":{DEEP}}}', "architecture img_size: more than 4 nested lists and objects"),
        ("architecture", '{"pool":"\\ud800"}', "architecture pool: half of a surrogate pair"),
        ("architecture", '{"pool":"\u00e9"}', "architecture: is not printable ASCII"),
        ("shapes", '{"head.weight":[3,[22]]}', "shapes: 'head.weight' must be a list of at most 8 whole numbers"),
        ("shapes", '{"head.weight":[99999,99999]}', "shapes: 'head.weight' is [99999, 99999], more than the"),
    ],
)
def test_hostile_metadata_is_named(exporter, tmp_path, key, value, words):
    metadata = {**exporter.metadata(), key: value}
    with pytest.raises(TrainerError, match=re.escape(f"odd.safetensors: {words}")):
        inspect(write(exporter.tensors, metadata, tmp_path / "odd.safetensors"))


def test_command(path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["trainer", "inspect", str(path), "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out) == inspect(path).as_json()
    monkeypatch.setattr("sys.argv", ["trainer", "inspect", str(path)])
    assert main() == 0
    assert capsys.readouterr().out == inspect(path).text() + "\n"


def test_an_int8_head_and_a_threshold_are_said(tmp_path):
    student, path = calibrated(COLOUR), tmp_path / "own.safetensors"
    weight = np.ones((2, 48), np.int8)
    numbers = np.ones(2, np.int32)
    export(student, path, Int8Head(("cat", "dog"), weight, numbers, numbers, 8, "token+mean", 1234))
    found = inspect(path)
    assert (found.refused, found.version, found.unternary, found.threshold) == ("", "3", ["head.weight"], "1234")
    assert "not ternary: head.weight\n" in found.text()
    assert '"unknown" below a logit of 1234\n' in found.text()
    head = next(group for group in found.groups if group.name == "head")
    assert (head.parameters, head.ternary, head.bytes) == (96, 0, 96)
    plain = tmp_path / "plain.safetensors"
    export(student, plain)
    own, other = Forward.of(found.architecture).macs, Forward.of(inspect(plain).architecture).macs
    assert own - other == 2 * 48 - 3 * 24
