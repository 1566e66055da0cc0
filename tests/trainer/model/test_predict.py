# SPDX-License-Identifier: MIT
"""trainer.model.predict: logits and accuracy on a set of pictures."""

import pytest
import torch

from tests.runs import data, settings, tiny_recipe
from trainer.errors import TrainerError
from trainer.model.predict import accuracy, computing_on, device, predictions


def test_predictions_are_in_order_and_without_gradient(tmp_path):
    student = tiny_recipe(tmp_path).new_student().train()
    pictures = data(11, 4)
    logits = torch.cat(list(predictions(student, pictures, batch=4)))
    assert not logits.requires_grad and not student.training
    with torch.no_grad():
        assert torch.allclose(logits, student(pictures.images), atol=1e-6)
    hits = (logits.argmax(1) == pictures.targets).double().mean().item()
    assert accuracy(student, pictures) == 100 * hits


@pytest.fixture
def machine(monkeypatch):
    """A machine with as many CUDA GPUs, and an Apple GPU or none."""
    monkeypatch.delenv("RANK", raising=False)

    def has(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "a GPU")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    has()
    return has


@pytest.mark.parametrize(
    ("has", "wanted", "found", "words"),
    [
        ({}, "auto", "cpu", "computing on the CPU (compute.device=auto)"),
        ({"mps": True}, "auto", "mps", "computing on mps, Apple's GPU, and on the CPU in SPEC's integers"),
        ({"cuda": 1, "mps": True}, "auto", "cuda", "computing on cuda, a GPU (compute.device=auto)"),
        ({"cuda": 1, "mps": True}, "mps", "mps", "computing on mps"),
        ({"cuda": 2}, "cuda:1", "cuda:1", "computing on cuda:1, a GPU"),
        ({"cuda": 1, "mps": True}, "cpu", "cpu", "computing on the CPU"),
    ],
)
def test_the_device_that_is_there_or_asked_for(machine, has, wanted, found, words):
    machine(**has)
    with computing_on(wanted) as said:
        assert device() == torch.device(found)
        assert said.startswith(words)
        machine()  # what was chosen stays
        assert device() == torch.device(found)
    assert device() == torch.device("cpu")


def test_devices_that_are_not_there(machine, monkeypatch):
    for wanted, has in (("cuda", {}), ("mps", {"cuda": 1}), ("cuda:1", {"cuda": 1})):
        machine(**has)
        with pytest.raises(TrainerError, match=f"^compute.device is {wanted}: torch .* sees "), computing_on(wanted):
            pass
    for wanted in ("gpu", "cuda:x", "xla"):
        with pytest.raises(TrainerError, match=r"^\[compute\] device is '.*', must be auto, cpu, cuda, cuda:N or mps"):
            settings(f"compute.device={wanted}")
    assert "device" not in settings("compute.device=cuda").shaping()["compute"]
    # Processes of torchrun exchange no tensors of MPS.
    machine(mps=True)
    monkeypatch.setenv("RANK", "0")
    assert device() == torch.device("cpu")
    with pytest.raises(TrainerError, match=r"compute.device is mps: torchrun's processes need"), computing_on("mps"):
        pass


def test_a_student_in_integers_needs_float64(machine, tmp_path):
    student = tiny_recipe(tmp_path).new_student()
    machine(mps=True)
    assert device(student) == device() == torch.device("mps")
    student.arithmetic.fracs = {"any": 1}
    assert device(student) == torch.device("cpu")
    machine(cuda=1, mps=True)
    assert device(student) == torch.device("cuda")


def test_attention_is_computed_by_products_in_bfloat16_on_a_cpu(machine, tmp_path):
    def fused(*changes) -> set[bool]:
        student = tiny_recipe(tmp_path, *changes).new_student()
        return {block.attn.fused_attn for block in student.vit.blocks}

    assert fused() == {True}
    assert fused("compute.amp=true") == {False}
    machine(cuda=1)
    assert fused("compute.amp=true") == {True}
