# SPDX-License-Identifier: MIT
"""The residual CNN for small pictures."""

import pytest
import torch

from tests.runs import PIXELS
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import ModelSettings


@pytest.mark.parametrize(("stride", "side"), [(1, 4), (2, 2)])
def test_stem_stride(stride, side):
    """Three stages halve a picture of 32, and so does the stem where it is told to."""
    options = {"channels": [4, 4, 4, 4], "stem_stride": stride}
    teacher = Teacher(TeacherBlueprint(ModelSettings("small_resnet", options), 3, PIXELS)).eval()
    images = torch.zeros(1, 32, 32, len(PIXELS.mean), dtype=torch.uint8)
    maps = teacher.net.forward_features(PIXELS.normalize(images))
    assert maps.shape == (1, 4, side, side)
    assert teacher(images).shape == (1, 3)
