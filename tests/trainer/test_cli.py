# SPDX-License-Identifier: MIT
"""The trainer's command line, from a configuration to a shipped model, small and on made-up pictures."""

import gzip
import json
import struct
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.tiny import pictures

CONFIG = """
seed = 5

[data]
validation = 40

[teacher]
layers = [1, 1, 1, 1]
channels = [4, 4, 4, 4]
epochs = 1
batch = 32
learning_rate = 0.05
warmup = 0.4
weight_decay = 0.0

[architecture]
name = "small"
img_size = 28
patch_size = 14
in_chans = 1
num_classes = 10
embed_dim = 20
depth = 1
num_heads = 2
mlp_hidden = 24

[distillation]
temperature = 2.0
label_weight = 0.3

[student]
epochs = 2
full_precision_epochs = 1
batch = 32
learning_rate = 1e-3
warmup = 0.4
weight_decay = 0.0

[recovery]
epochs = 1
batch = 32
learning_rate = 1e-4
warmup = 0.4
weight_decay = 0.0
calibration = 32
"""


def trainer(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.numpy().tobytes()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 200), ("t10k", 60)):
        images = pictures(count, seed=count)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", (images.float().mean((1, 2)) / 25.6).byte())
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.toml").write_text(CONFIG)
    options = ["--data", data, "--model", folder / "model.safetensors", "--checkpoints", folder / "checkpoints"]
    train = ["train", *options, "--config", folder / "config.toml", "--run", folder / "run"]
    result = trainer(*train)
    assert result.returncode == 0, result.stderr
    return folder, options, train


def test_train_writes_model_checkpoints_and_record(trained):
    folder, _, _ = trained
    record = json.loads((folder / "checkpoints" / "record.json").read_text())
    assert record["configuration"]["seed"] == 5
    assert record["model_bytes"] == (folder / "model.safetensors").stat().st_size
    assert [len(record["epochs_log"][name]) for name in ("teacher", "student", "recovery")] == [1, 2, 1]


def test_train_again_changes_nothing(trained):
    folder, _, train = trained
    before = (folder / "model.safetensors").read_bytes()
    assert trainer(*train).returncode == 0
    assert (folder / "model.safetensors").read_bytes() == before


def test_export_makes_the_same_file_from_the_checkpoint(trained, data):
    folder, options, _ = trained
    again = folder / "again.safetensors"
    result = trainer("export", *options, "--model", again)
    assert result.returncode == 0, result.stderr
    assert again.read_bytes() == (folder / "model.safetensors").read_bytes()


def test_evaluate_agrees_and_writes_json(trained):
    folder, options, _ = trained
    output = folder / "eval.json"
    result = trainer("evaluate", *options, "--output", output)
    assert result.returncode == 0, result.stderr
    values = json.loads(output.read_text())
    assert set(values) >= {
        "images",
        "teacher_top1",
        "student_top1",
        "exported_top1",
        "agreement",
        "images_per_s",
        "model_bytes",
    }
    assert values["images"] == values["equal_logits"] == 60
    assert values["agreement"] == 100
    assert "agreement" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--config", "nowhere.toml"], "nowhere.toml: cannot be read (No such file"),
        (["evaluate", "--data", "nowhere"], "nowhere/t10k-images-idx3-ubyte.gz: not found; install"),
        (["export", "--checkpoints", "nowhere"], "nowhere/student.fp16.safetensors: not found; `just train` makes it"),
        (["evaluate", "--model", "README.md"], "README.md: header length"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    result = trainer(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("trainer: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_help():
    assert "train" in trainer("--help").stdout
    assert "resumes" in trainer("--help").stdout
    assert "--config" in trainer("train", "--help").stdout
