# SPDX-License-Identifier: MIT
"""The trainer's command line, from a configuration to a shipped model, small and on made-up pictures."""

import gzip
import json
import shutil
import struct
import subprocess
import sys
import time

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


def options(data, folder):
    """What train, export and evaluate need to work in `folder` alone."""
    return ["--data", data, "--model", folder / "model.safetensors", "--checkpoints", folder / "checkpoints"]


def train_command(data, folder):
    """Train with CONFIG in `folder`."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    return ["train", *options(data, folder), "--config", config, "--run", folder / "run"]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = trainer(*train_command(data, folder))
    assert result.returncode == 0, result.stderr
    return folder


def model_bytes(folder):
    return (folder / "model.safetensors").read_bytes()


def record_of(folder):
    return json.loads((folder / "checkpoints" / "record.json").read_text())


def test_train_writes_model_checkpoints_and_record(trained):
    record = record_of(trained)
    assert record["configuration"]["seed"] == 5
    assert record["model_bytes"] == len(model_bytes(trained))
    assert [len(record["epochs_log"][name]) for name in ("teacher", "student", "recovery")] == [1, 2, 1]


def test_train_again_changes_nothing(trained, data):
    before = model_bytes(trained)
    assert trainer(*train_command(data, trained)).returncode == 0
    assert model_bytes(trained) == before


def test_export_makes_the_same_file_from_the_checkpoint(trained, data):
    again = trained / "again.safetensors"
    result = trainer("export", *options(data, trained), "--model", again)
    assert result.returncode == 0, result.stderr
    assert again.read_bytes() == model_bytes(trained)


def test_evaluate_agrees_and_writes_json(trained, data):
    output = trained / "eval.json"
    result = trainer("evaluate", *options(data, trained), "--output", output)
    assert result.returncode == 0, result.stderr
    values = json.loads(output.read_text())
    keys = "images teacher_top1 student_top1 exported_top1 agreement images_per_s model_bytes"
    assert set(values) >= set(keys.split())
    assert values["images"] == values["equal_logits"] == 60
    assert values["agreement"] == 100
    assert "agreement" in result.stdout


@pytest.mark.parametrize("phase", ["teacher", "student", "recovery"])
def test_a_phase_that_is_made_again_takes_the_later_ones_with_it(trained, data, tmp_path, phase):
    """Deleting a checkpoint and training again ends with the same bytes: nothing stale is reused."""
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / f"{phase}.pt").unlink()
    result = trainer(*train_command(data, tmp_path))
    assert result.returncode == 0, result.stderr
    assert model_bytes(tmp_path) == model_bytes(trained)
    assert record_of(tmp_path)["epochs_log"] == record_of(trained)["epochs_log"]


def test_killed_training_resumes_to_the_same_bytes(trained, data, tmp_path):
    command = train_command(data, tmp_path)
    line = [sys.executable, "-m", "trainer", *map(str, command)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not (tmp_path / "run" / "teacher.pt").exists():
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    assert not (tmp_path / "model.safetensors").exists()
    result = trainer(*command)
    assert result.returncode == 0, result.stderr
    assert model_bytes(tmp_path) == model_bytes(trained)


def test_damaged_checkpoints_and_folders_that_are_files_are_one_line(trained, data, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "student.fp16.safetensors").write_bytes(b"not a checkpoint")
    for arguments, words in (
        (["export", "--checkpoints", tmp_path], "student.fp16.safetensors: not a checkpoint of this trainer"),
        ([*train_command(data, tmp_path), "--run", tmp_path / "file" / "run"], "file"),
        (["export", *options(data, trained), "--model", tmp_path / "file" / "model.safetensors"], "file"),
    ):
        result = trainer(*arguments)
        assert result.returncode == 1
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


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
