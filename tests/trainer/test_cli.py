# SPDX-License-Identifier: MIT
"""The trainer's command line, from a configuration to a shipped model, small and on made-up pictures."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.tiny import pictures, write_idx

CONFIG = """
seed = 5

[data]
source = "fashion_mnist"
path = "{data}"
size = 28
channels = 1
validation = 40

[model]
name = "vit_tiny_patch16_224"
stem = [[8, 3, 2, 1]]
patch = [7, 7, 0]
options = {{ embed_dim = 20, depth = 1, num_heads = 2, mlp_ratio = 1.2 }}

[teacher.model]
name = "small_resnet"
options = {{ layers = [1, 1, 1, 1], channels = [4, 4, 4, 4] }}

[teacher.training]
optimizer = "sgd"
epochs = 1
batch = 32
learning_rate = 0.05
warmup = 0.4
weight_decay = 0.0

[distillation]
temperature = 2.0
label_weight = 0.3

[student]
epochs = 2
full_precision_epochs = 1
start = "output_aware"
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

[compute]
threads = 1
table = false
"""


def trainer(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 200), ("t10k", 60)):
        images = pictures(count, seed=count)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", (images.float().mean((1, 2)) / 25.6).byte())
    return folder


def configured(data, folder):
    """CONFIG as a file in `folder`."""
    config = folder / "small.toml"
    config.write_text(CONFIG.format(data=data))
    return config


def train_command(data, folder):
    """Train with CONFIG in `folder`."""
    return ["train", "--config", configured(data, folder), "--run", folder / "run"]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = trainer(*train_command(data, folder))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("computing on ")
    return folder


def model_bytes(folder):
    return (folder / "run" / "small.safetensors").read_bytes()


def record_of(folder):
    return json.loads((folder / "run" / "record.json").read_text())


def test_train_writes_model_checkpoints_and_record(trained):
    record = record_of(trained)
    assert record["configuration"]["seed"] == 5
    assert record["model_bytes"] == len(model_bytes(trained))
    assert [len(record["epochs_log"][name]) for name in ("teacher", "student", "recovery")] == [1, 2, 1]
    assert set(record["test_top1"]) == {"ternary, float activations", "after recovery"}


def test_control_is_trained_beside_the_student(trained, data):
    result = trainer("control", *train_command(data, trained)[1:])
    assert result.returncode == 0, result.stderr
    record = json.loads((trained / "run" / "control.json").read_text())
    assert len(record["epochs_log"]) == 2
    assert 0 <= record["test_top1"]["FP32 control"] <= 100
    assert (trained / "run" / "student.pt").exists()


def test_train_again_changes_nothing(trained, data):
    before = model_bytes(trained)
    assert trainer(*train_command(data, trained)).returncode == 0
    assert model_bytes(trained) == before


def test_export_makes_the_same_file_from_the_checkpoint(trained):
    again = trained / "again.safetensors"
    result = trainer("export", "--checkpoints", trained / "run", "--model", again)
    assert result.returncode == 0, result.stderr
    assert again.read_bytes() == model_bytes(trained)


def evaluate_command(data, folder):
    """Evaluate the model file in `folder`, JSON beside it."""
    return [
        "evaluate",
        folder / "run" / "small.safetensors",
        *("--config", configured(data, folder), "--checkpoints", folder / "run", "--output", folder / "eval.json"),
    ]


def test_evaluate_agrees_and_writes_json(trained, data):
    result = trainer(*evaluate_command(data, trained))
    assert result.returncode == 0, result.stderr
    values = json.loads((trained / "eval.json").read_text())
    assert values["images"] == values["equal_logits"] == 60
    assert values["agreement"] == 100
    assert values["largest_logit_difference"] == 0
    assert values["exported_top1"] == values["student_top1"] == record_of(trained)["test_top1"]["after recovery"]
    assert sum(map(sum, values["confusion"])) == 60
    right = sum(values["confusion"][label][label] for label in range(10))
    assert values["exported_top1"] == round(100 * right / 60, 2)
    assert "agreement" in result.stdout


@pytest.mark.parametrize(("where", "measured"), [("host_sim", "exported_top1"), ("torch", "student_top1")])
def test_evaluate_on_one_side_alone(trained, data, where, measured):
    result = trainer(*evaluate_command(data, trained), "--on", where, "--images", 9)
    assert result.returncode == 0, result.stderr
    values = json.loads((trained / "eval.json").read_text())
    assert values["images"] == 9
    assert {key for key in ("exported_top1", "student_top1") if values[key] is not None} == {measured}
    assert values["agreement"] is None


def test_evaluate_refuses_pictures_of_other_classes(trained, data):
    result = trainer(*evaluate_command(data, trained), "data.source=folder", f"data.path={trained}")
    assert result.returncode == 1
    assert result.stderr.startswith("trainer: ")
    assert result.stderr.count("\n") == 1


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
    (tmp_path / "student.fp32.safetensors").write_bytes(b"not a checkpoint")
    for arguments, words in (
        (["export", "--checkpoints", tmp_path], "student.fp32.safetensors: not a checkpoint of this trainer"),
        ([*train_command(data, tmp_path), "--run", tmp_path / "file" / "run"], "file"),
        (["export", "--checkpoints", trained / "run", "--model", tmp_path / "file" / "model.safetensors"], "file"),
    ):
        result = trainer(*arguments)
        assert result.returncode == 1
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--config", "nowhere.toml"], "nowhere.toml: cannot be read (No such file"),
        (["train", "student.epochs=0"], "fashion_mnist.toml: [student] epochs must be at least 1"),
        (["train", "student.epoch=3"], "[student] epoch is not a setting; there are epochs"),
        (["train", "student"], "'student' is not of the form section.key=value"),
        (["train", "ternary.head=false"], "[ternary] leaves parts in full precision"),
        (
            ["train", "model.name=vit_tyni", "data.validation=1"],
            "fashion_mnist.toml: [model] vit_tyni is no timm model",
        ),
        (["train", "model.options.in_chans=0"], "fashion_mnist.toml: [model] options.in_chans = 0: leave it out"),
        (["control", "model.options.depth=0"], "fashion_mnist.toml: [model] options.depth = 0: vit_tiny_patch16_224: "),
        (
            ["evaluate", "--on", "host_sim", "data.path=nowhere"],
            "nowhere/t10k-images-idx3-ubyte.gz: not found; install",
        ),
        (["evaluate", "--images", "0"], "--images 0: must be at least 1"),
        (["export", "--checkpoints", "nowhere"], "nowhere/student.fp32.safetensors: not found; `just train` makes it"),
        (["evaluate", "README.md", "--on", "host_sim"], "README.md: header length"),
        (["ablate", "--only", "nothing like it"], "names no row; there are base"),
        (["bench", "--rounds", "0"], "--classes and --rounds must be at least 1"),
        (["image", "README.md"], "README.md: "),
        (["image", "a.jpg", "b.jpg", "--out", "c.ppm"], "--out c.ppm: must be a folder for more than one photo"),
    ],
)
def test_mistakes_are_one_line(arguments, words, tmp_path):
    run = ["--run", tmp_path] if arguments[0] in ("train", "control") else []
    result = trainer(*arguments, *run)
    assert result.returncode == 1
    assert result.stderr.startswith("trainer: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


COMMANDS = {
    "train": "--config --run --restart --adopt SECTION.KEY=VALUE",
    "control": "--config --run --restart --adopt SECTION.KEY=VALUE",
    "export": "--checkpoints --model",
    "evaluate": "--config --on --checkpoints --output --images --modelled --no-modelled",
    "import": "--config SECTION.KEY=VALUE",
    "own-pictures": "CIFAR-10 --output --no-baseline SECTION.KEY=VALUE",
    "inspect": "--json",
    "report": "--config --checkpoints --output",
    "image": "PHOTO --out --size --grey",
    "images": "--data --folder",
    "sizes": "--output",
    "ablate": "--config --run --output --seeds --only",
    "bench": "--config --classes --rounds --output",
    "starts": "--config --run --output SECTION.KEY=VALUE",
    "stress": "",
    "numbers": "",
}


def test_help_names_every_command():
    text = trainer("--help").stdout
    assert all(f"\n    {command}" in text for command in COMMANDS)
    assert "resumes" in text
    assert "torchrun" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_its_options(command):
    result = trainer(command, "--help")
    assert result.returncode == 0
    assert all(option in result.stdout for option in COMMANDS[command].split())
