# SPDX-License-Identifier: MIT
"""trainer.model.student: which arithmetic a student computes with."""

import copy

import torch

from tests.tiny import SCALED, STEM, calibrated, images_for, untrained
from trainer.integer.network import IntegerNetwork
from trainer.model.student import FloatArithmetic


def test_arithmetic_decides_how_a_student_computes():
    student, images = untrained(STEM), images_for(STEM, 6)
    with torch.no_grad():
        exact = student(images)
        assert not student.calibrated and student.fracs == {}
        integers = calibrated(STEM)
        found = integers(images)
        assert integers.calibrated and integers.fracs
        steps = found * 2.0 ** integers.fracs["head"]
        assert torch.equal(steps, steps.round()) and not torch.equal(found.float(), exact)
        network, integers.arithmetic = integers.arithmetic, FloatArithmetic(integers.vit, integers.pixels)
        assert torch.equal(integers(images), exact)
        integers.arithmetic = IntegerNetwork.of(integers, network.fracs)
        assert torch.equal(integers(images), found)


def test_a_copy_computes_with_its_own_weights():
    """Averaged weights are a deep copy that goes its own way."""
    for student in (untrained(SCALED), calibrated(SCALED)):
        images = images_for(SCALED, 6)
        with torch.no_grad():
            before = student(images)
            other = copy.deepcopy(student)
            other.vit.head.bias.add_(3.0)
            assert torch.equal(student(images), before)
            assert not torch.equal(other(images), before)


def test_features_are_kept_only_in_training_and_on_request():
    student, images = calibrated(SCALED), images_for(SCALED, 3)
    student.train()(images)
    assert student.features is None
    student.keep_features = True
    student.eval()(images)
    assert student.features is None
    student.train()(images)
    assert student.features.shape == (3, student.architecture.embed_dim)
