# SPDX-License-Identifier: MIT
"""The configurations of the two colour models, small and on made-up pictures, to the shipped file and its figures."""

import json
import subprocess

import pytest
import torch

from tests.conftest import ROOT
from tests.runs import trainer
from tests.trainer.data.test_loaded import SYNSETS, write_set, zipped
from trainer.config import load_config
from trainer.training.restore import load_student

TINY = (
    "data.validation=6",
    "data.size=32",
    "data.workers=0",
    "data.views=2",
    "model.stem=[[8,3,2,1],[8,3,2,1]]",
    "model.options={embed_dim=16,depth=1,num_heads=2,mlp_ratio=2}",
    "teacher.model.name=small_resnet",
    "teacher.model.pretrained=false",
    "teacher.model.options={layers=[1,1,1,1],channels=[8,8,8,8],stem_stride=2}",
    "teacher.training.epochs=2",
    "teacher.training.sizes=[[1,16],[1,32]]",
    "teacher.training.batch=8",
    "teacher.training.warmup=0.3",
    "student.epochs=3",
    "student.full_precision_epochs=1",
    "student.batch=8",
    "student.warmup=0.3",
    "recovery.epochs=1",
    "recovery.batch=8",
    "recovery.warmup=0.3",
    "recovery.calibration=16",
    "compute.threads=1",
    "output.model=",
    "output.checkpoints=",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return zipped(write_set(tmp_path_factory.mktemp("set") / "small", train=16))


def changes(archive, name):
    own = ["student.sizes=[[1,16],[1,24],[1,32]]", "teacher.size=48"] if name == "eyes" else []
    return [f"data.path={archive}", *TINY, *own]


@pytest.fixture(scope="module", params=["eyes", "cifar10"])
def trained(request, archive, tmp_path_factory):
    """Name of a configuration and the folder that training it left."""
    run = tmp_path_factory.mktemp(request.param)
    config = ROOT / "trainer" / "configs" / f"{request.param}.toml"
    trainer("train", "--config", config, "--run", run, *changes(archive, request.param))
    return request.param, run


def test_a_configuration_gives_a_model_and_its_figures(trained, archive, tmp_path):
    name, run = trained
    words = ["--config", ROOT / "trainer" / "configs" / f"{name}.toml", *changes(archive, name)]
    trainer("control", *words, "--run", run)
    output = tmp_path / "eval.json"
    model = run / f"{name}.safetensors"
    said = trainer("evaluate", model, *words, "--checkpoints", run, "--output", output, "--no-modelled", "--images", 11)
    found = json.loads(output.read_text())
    assert (found["images"], found["agreement"], found["equal_logits"]) == (11, 100, 11)
    assert found["labels"] == ["goldfish", "golden retriever", "tabby"]
    assert found["exported_top1"] == found["student_top1"]
    assert found["control_top1"] == pytest.approx(
        json.loads((run / "control.json").read_text())["test_top1"]["FP32 control"], abs=0.01
    )
    assert found["model_bytes"] == model.stat().st_size
    digest = subprocess.run(["sha256sum", model], capture_output=True, text=True).stdout.split()[0]
    assert found["model_sha256"] == digest
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert found["commit"].removesuffix("-changed") == head
    assert found["exported_top5"] is None, "of three classes"
    assert "exported file" in said


def test_a_state_of_another_loop_becomes_model_record_and_figures(trained, archive, tmp_path):
    """A calibrated student as torch.save leaves it: the same file comes out of the trainer, and its log is kept."""
    name, run = trained
    student = load_student(run / "student.fp32.safetensors")
    blueprint = json.loads(student.description()["blueprint"]) | {"labels": ["0", "1", "2"]}
    log = [{"epoch": 1, "val1": 12.5}]
    state = {"net": student.state_dict(), "log": log}
    described = {"blueprint": json.dumps(blueprint), "fracs": json.dumps(student.fracs)}
    torch.save({**state, "blueprint": described}, tmp_path / "state.pt")
    words = ["--config", ROOT / "trainer" / "configs" / f"{name}.toml", *changes(archive, name)]
    given = tmp_path / "given.safetensors"
    trainer("import", tmp_path / "state.pt", given, *words)
    teacher = f"teacher.checkpoint={run / 'teacher.fp16.safetensors'}"
    starts = [f"student.weights={given}", "student.epochs=0"]
    anew = tmp_path / "anew"
    trainer("train", *words, *starts, teacher, "recovery.epochs=0", "--run", anew)
    assert (anew / f"{name}.safetensors").read_bytes() == (run / f"{name}.safetensors").read_bytes()
    record = json.loads((anew / "record.json").read_text())
    assert record["started_from"]["log"] == log
    assert record["test_top1"]["after recovery"] == pytest.approx(
        json.loads((run / "record.json").read_text())["test_top1"]["after recovery"]
    )
    # Not calibrated: it is calibrated and recovered here.
    torch.save({**state, "blueprint": {**described, "fracs": "{}"}}, tmp_path / "state.pt")
    trainer("import", tmp_path / "state.pt", given, *words)
    trainer("train", *words, *starts, teacher, "--run", tmp_path / "recovered")
    assert len(json.loads((tmp_path / "recovered" / "record.json").read_text())["epochs_log"]["recovery"]) == 1


def test_a_state_without_the_datas_labels_is_no_finished_student(trained, archive, tmp_path):
    name, run = trained
    student = load_student(run / "student.fp32.safetensors")
    blueprint = json.loads(student.description()["blueprint"]) | {"labels": ["0", "1", "2"]}
    described = {"blueprint": json.dumps(blueprint), "fracs": "{}"}
    torch.save({"net": student.state_dict(), "blueprint": described}, tmp_path / "state.pt")
    trainer("import", tmp_path / "state.pt", tmp_path / "given.safetensors")
    words = ["--config", ROOT / "trainer" / "configs" / f"{name}.toml", *changes(archive, name)]
    starts = [f"student.weights={tmp_path / 'given.safetensors'}", "student.epochs=0"]
    starts += [f"teacher.checkpoint={run / 'teacher.fp16.safetensors'}"]
    said = trainer("train", *words, *starts, "--run", tmp_path / "run", status=1)
    assert "is for 3 classes (0, 1, 2 ..), the data has 3 (goldfish, " in said


@pytest.mark.parametrize("name", ["eyes", "cifar10"])
def test_shipped_configurations_are_within_their_limits(name):
    """Sizes that the issue of these models sets: bytes of weights and multiply-accumulates."""
    from trainer.model.vit import architecture_of, create_vit
    from trainer.modelfile.inspect import Forward

    config = load_config(ROOT / "trainer" / "configs" / f"{name}.toml")
    vit = create_vit(config.model, config.data.size, 3, 200 if name == "eyes" else 10)
    sizes = vars(architecture_of(vit, name))
    assert Forward.of(sizes).macs <= {"eyes": 180e6, "cifar10": 60e6}[name]
    matrices = sum(p.numel() for p in vit.parameters() if p.ndim > 1)
    assert matrices / 5 <= {"eyes": 0.55e6, "cifar10": 0.25e6}[name]


def test_synsets_are_as_timm_sorts_them():
    assert sorted(SYNSETS) != list(SYNSETS), "so that the order of folders is seen"
