# SPDX-License-Identifier: MIT
"""trainer.integer.network."""

import numpy as np
import pytest
import torch

from tests import oracle
from tests.tiny import ODD, SCALED, SINGLE, STEM, calibrated, images_for
from trainer.errors import TrainerError
from trainer.integer.mean import POOLINGS, integer_mean
from trainer.modelfile.export import export


def test_autocast_leaves_integers_alone():
    student = calibrated(ODD)
    images = images_for(ODD, 4)
    expected = student(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(student(images), expected)


def test_residual_shifts_are_specs():
    for blueprint in (ODD, SCALED, STEM):
        student = calibrated(blueprint)
        network = student.arithmetic
        branches = ["cls_token", "pos_embed", "patch_embed.proj"]
        branches += [f"blocks.{i}.{part}" for i in range(len(student.vit.blocks)) for part in ("attn.proj", "mlp.fc2")]
        assert all(0 <= network.residual_shift(name) <= 8 for name in branches)


def test_features_equal_the_oracle(tmp_path):
    for blueprint in (ODD, SINGLE, STEM):
        student = calibrated(blueprint)
        path = tmp_path / "model.safetensors"
        export(student, path)
        images = images_for(blueprint, 8)
        network = oracle.Network(*oracle.load(path))
        expected = [network.features(image.numpy()) for image in images]
        with torch.no_grad():
            for pooling in POOLINGS:
                found = student.arithmetic.features(images, pooling).numpy()
                assert np.array_equal(found, np.stack([e[pooling] for e in expected]))


def test_features_refuse_an_unknown_pooling():
    student = calibrated(SINGLE)
    with pytest.raises(TrainerError, match=r"pooling is 'max', needs one of token, mean, token\+mean"):
        student.arithmetic.features(images_for(SINGLE, 1), "max")


def test_mean_has_the_gradient_of_the_mean():
    x = torch.randint(-128, 128, (2, 5, 3)).float().requires_grad_()
    integer_mean(x).sum().backward()
    assert torch.allclose(x.grad, torch.full_like(x, 0.2))
