# SPDX-License-Identifier: MIT
"""trainer.experiments.resampling: the figures of its docstring, with some room."""

from tests.photos import CLASSES, photograph
from trainer.experiments.resampling import WAYS, resampling_difference


def test_the_boards_resize_is_timms_bilinear_within_one_step():
    for label in CLASSES:
        for width, height in ((400, 300), (640, 800), (90, 120)):
            result = resampling_difference(photograph(label, 3, width, height), 96)
            assert list(result) == list(WAYS)
            assert result["bilinear"]["max"] <= 1
            assert result["bilinear"]["mean"] < 0.5
            assert result["bicubic"]["mean"] < 3
            assert result["bicubic, crop_pct 0.9"]["mean"] > result["bicubic"]["mean"]
