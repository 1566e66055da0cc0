# SPDX-License-Identifier: MIT
"""The fake-quantised student, the exported file on the kernels, and the oracle: one set of logits."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests import oracle
from tests.tiny import ARCHITECTURES, ODD, calibrated, pictures, untrained
from trainer.checkpoint import save_fp16
from trainer.errors import TrainerError
from trainer.evaluate import exported_logits, load_student, open_model
from trainer.export import export, padded
from trainer.integer import MAX_ACCUMULATOR, IntegerNetwork, fold_linear, integer_logits
from trainer.layers import TernaryBitConv2d, TernaryBitLinear


def labels_of(architecture):
    return [f"class {i}" for i in range(architecture.num_classes)]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.name)
def student(request):
    return calibrated(request.param)


@pytest.fixture(scope="module")
def model_file(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    size = export(student, labels_of(student.architecture), path)
    assert size == path.stat().st_size
    return path


def test_student_file_and_oracle_give_the_same_logits(student, model_file):
    images = pictures(20, seed=5)
    with torch.no_grad():
        fake = integer_logits(student, images).numpy()
    exported = exported_logits(open_model(model_file), images, label="")
    assert np.array_equal(fake, exported)
    tensors, metadata = oracle.load(model_file)
    for image, logits in zip(images.numpy()[:5], exported, strict=False):
        assert np.array_equal(oracle.forward(tensors, metadata, image[..., None]), logits)


def test_training_forward_has_the_values_of_evaluation(student):
    images = pictures(8, seed=6)
    with torch.no_grad():
        expected = integer_logits(student, images)
    logits = integer_logits(student, images)
    assert torch.equal(logits.detach(), expected)
    logits.square().sum().backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values()), gradients.keys()
    student.zero_grad()


def test_file_is_plain_safetensors(model_file):
    with safe_open(model_file, "np") as file:
        assert file.metadata()["format"] == "ftervit"
        shapes = json.loads(file.metadata()["shapes"])
        assert set(shapes) == set(file.keys())


def test_accumulators_stay_within_bounds(student):
    network = IntegerNetwork(student)
    for name, layer in student.vit.named_modules():
        if isinstance(layer, TernaryBitLinear | TernaryBitConv2d) and name != "head":
            folded = fold_linear(layer, *network.linear_settings(name, layer))
            bias = folded.bias * torch.exp2((folded.channel_shift() - 6).clamp(min=0))
            assert bias.abs().max() + 128 * folded.trits.shape[1] <= MAX_ACCUMULATOR
            assert folded.multiplier.max() <= 127


def test_q_multipliers_keep_the_promise_of_spec_7_7(student, model_file):
    width = student.architecture.embed_dim
    with safe_open(model_file, "np") as file:
        for index in range(student.architecture.depth):
            multiplier = file.get_tensor(f"blocks.{index}.attn.qkv.multiplier")[:width].astype(int)
            assert 128 * (width // student.architecture.num_heads) * multiplier.max() <= MAX_ACCUMULATOR


def test_export_needs_calibration(tmp_path):
    with pytest.raises(TrainerError, match="calibrate"):
        export(untrained(ODD), labels_of(ODD), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_export_needs_a_label_for_each_class(tmp_path):
    with pytest.raises(TrainerError, match="6 labels for 7 classes"):
        export(calibrated(ODD), labels_of(ODD)[1:], tmp_path / "x.safetensors")


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(TrainerError, match="do not fit int8"):
        padded(torch.tensor([1.0, 128.0]), "int8")


def test_fp16_checkpoint_round_trip(tmp_path):
    student = calibrated(ODD)
    path = tmp_path / "student.safetensors"
    save_fp16(student, path, student.description())
    loaded = load_student(path)
    assert loaded.fracs == student.fracs
    assert loaded.architecture == student.architecture
    # Halved once, a weight stays what it is: the model file made from the checkpoint can be made again.
    again = tmp_path / "again.safetensors"
    save_fp16(loaded, again, loaded.description())
    for name, tensor in load_student(again).state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
