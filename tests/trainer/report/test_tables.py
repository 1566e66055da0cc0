# SPDX-License-Identifier: MIT
"""The generated tables of README and docs/numbers.md."""

import hashlib
import json

import pytest

from host_sim.tables import NUMBERS, README
from trainer.errors import TrainerError
from trainer.files import write_json
from trainer.paths import Files
from trainer.report import tables
from trainer.report.tables import (
    ablation_table,
    accuracy_table,
    bench_table,
    equality_line,
    evaluations,
    read,
    results_table,
    sizes_table,
)

EVALUATION = {
    "images": 10000,
    "teacher_top1": 93.5,
    "student_top1": 89.25,
    "exported_top1": 89.25,
    "agreement": 100.0,
    "equal_logits": 10000,
    "largest_logit_difference": 0,
    "images_per_s": 250.4,
    "model_bytes": 180352,
    "activation_bytes": 70000,
}
DEMO = {"right": 9, "of": 10, "board": "unix"}
RECORD = {
    "configuration": {"student": {"epochs": 40}},
    "validation_top1": {
        "teacher": 93.0,
        "ternary, float activations": 90.0,
        "int8 embeddings, else float": 89.9,
        "all integers, before recovery": 89.8,
        "after recovery": 90.1,
    },
    "test_top1": {"ternary, float activations": 89.1, "after recovery": 89.25},
}
CONTROL = {"validation_top1": 90.5, "test_top1": {"FP32 control": 89.6}}
ABLATION = {
    "epochs": 8,
    "recovery_epochs": 1,
    "rows": [
        {"name": "base", "trained": [80.0, 81.0], "calibrated": [79.0, 80.0], "recovered": [80.25, 80.75]},
        {"name": "KL only", "trained": [79.5], "calibrated": [79.25], "recovered": [80.0]},
        {"name": "head in full precision", "trained": [82.0, 82.0], "calibrated": [None] * 2, "recovered": [None] * 2},
    ],
}
STEPS = {name: {"median_s": 0.1, "ratio": 1.0} for name in ("fp32", "ternary", "integer", "teacher")}


def test_rows_hold_what_was_measured():
    text = accuracy_table(EVALUATION, RECORD, CONTROL)
    assert (
        "| FP32 control: same architecture, teacher, pictures, 40 epochs | 90.50 % | 89.60 % | `just control` |" in text
    )
    assert "| ternary weights, before recovery | 90.00 % | 89.10 % |" in text
    assert "| the same, int8 embeddings, else float | 89.90 % |  |" in text
    assert "| **exported file on the simulator, 180,352 bytes** |  | 89.25 % | `just eval` |" in text
    assert "bit for bit on 10,000 of 10,000 (largest difference 0)" in equality_line(EVALUATION, DEMO)
    assert "| `deit_tiny_patch16_224` | 1,250,000 | 1,530,000 |" in sizes_table({"deit_tiny_patch16_224": 1250000})
    assert "| base | 80.50 +- 0.50 | 79.50 +- 0.50 | 80.50 +- 0.25 |" in ablation_table(ABLATION)
    assert "| KL only | 79.50 (one seed) | 79.25 (one seed) | 80.00 (one seed) |" in ablation_table(ABLATION)
    assert "1 or 2 seeds" in ablation_table(ABLATION)
    assert "| head in full precision | 82.00 +- 0.00 | - | - |" in ablation_table(ABLATION)
    assert "| FP32 | 100 ms | 1.00 |" in bench_table({"batch": 256, "steps": STEPS})


def test_missing_files_are_named(tmp_path):
    with pytest.raises(TrainerError, match=r"eval\.json: not found; `just eval` makes it"):
        read(tmp_path / "eval.json", "eval")


BENCH = [
    {"name": "shipped_model", "seconds": 0.00999, "cores": 1, "activation_bytes": 60000},
    {"name": "deit3_small_patch16_224", "seconds": 1.106, "cores": 2, "activation_bytes": 400000},
]


EYES = {**EVALUATION, "control_top1": None, "exported_top1": 41.5, "modelled_ms": 48.25, "modelled_cores": 2}


def test_first_page():
    found = {"fashion_mnist": {**EVALUATION, "control_top1": 89.6}, "eyes": EYES}
    text = results_table(found, {"deit3_small_patch16_224": 4669488}, BENCH)
    assert (
        "| 89.25 % of 10,000 test pictures (FP32 twin 89.60 %) | 180,352 bytes | 60,000 bytes "
        "| 10.0 ms, 1 core, modelled |"
    ) in text
    assert "| 41.50 % of 10,000 test pictures | 180,352 bytes | 70,000 bytes | 48.2 ms, 2 cores, modelled |" in text
    assert "| 4,669,488 bytes (the paper's file: 5.81 MB) | 400,000 bytes | 1.11 s, 2 cores, modelled |" in text
    assert "| bitnet-edge, ternary CNN | CIFAR-10 | 69.02 % |" in text


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two model files, their evaluations beside checkpoints, and one of the default model under build/."""
    monkeypatch.setattr(tables, "MODEL", tmp_path / "fashion_mnist.safetensors")
    monkeypatch.setattr(tables, "SEES", {"fashion_mnist": "", "eyes": ""})
    (tmp_path / "eyes.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    write_json(EVALUATION, tmp_path / "build" / "eval.json")
    whole = {**EYES, "part": "test", "model_sha256": digest}
    write_json(whole, tmp_path / "checkpoints" / "eyes" / "eval.json")
    return tmp_path, whole


def test_evaluations_lie_beside_the_checkpoints(shipped):
    """A newer one under build/ takes the place of what is kept, unless it is of fewer pictures or another file."""
    folder, whole = shipped
    kept, newer = folder / "checkpoints" / "eyes" / "eval.json", folder / "build" / "eval-eyes.json"

    def found() -> dict:
        return evaluations(folder / "build", folder / "checkpoints")["eyes"]

    assert found() == whole
    for changed in ({"images": 100}, {"part": "validation"}, {"model_sha256": "0"}, {"modelled_ms": None}):
        write_json({**whole, "exported_top1": 1.0, **changed}, newer)
        assert found() == whole
    of_classes = {"labels": ["a"], "by_class": {"a": 42.0}, "confusion": [[1]]}
    write_json({**whole, "exported_top1": 42.0, **of_classes}, newer)
    assert found()["exported_top1"] == 42.0
    assert json.loads(kept.read_text())["exported_top1"] == 42.0
    assert not set(of_classes) & set(json.loads(kept.read_text()))


def test_an_evaluation_of_another_file_is_refused(shipped):
    folder, _ = shipped
    (folder / "eyes.safetensors").write_bytes(b"others")
    with pytest.raises(TrainerError, match=r"eval\.json: is of another file than eyes\.safetensors; run `just eval`"):
        evaluations(folder / "build", folder / "checkpoints")


def test_documents_and_record_speak_of_the_shipped_file():
    """Size and accuracies in the documents are those of the files beside them."""
    files = Files()
    record, control = (json.loads(path.read_text()) for path in (files.record, files.control_record))
    numbers, readme = NUMBERS.read_text(), README.read_text()
    size, twin = f"{record['model_bytes']:,} bytes", control["test_top1"]["FP32 control"]
    assert record["model_bytes"] == files.model.stat().st_size
    assert size in numbers
    assert f"{record['test_top1']['after recovery']:.2f} % of 10,000 test pictures (FP32 twin {twin:.2f} %)" in readme
    assert f"| {size} |" in readme
    for values in (record["validation_top1"], record["test_top1"]):
        assert f"| {values['ternary, float activations']:.2f} % |" in numbers
        assert f"| {values['after recovery']:.2f} % |" in numbers
    assert f"| {twin:.2f} % |" in numbers
    assert ablation_table(json.loads((files.checkpoints / "ablation.json").read_text())) in numbers
