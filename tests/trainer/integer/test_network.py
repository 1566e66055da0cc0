# SPDX-License-Identifier: MIT
"""trainer.integer.network."""

import torch

from tests.tiny import ODD, SCALED, STEM, calibrated, images_for


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
