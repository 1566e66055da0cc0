# SPDX-License-Identifier: MIT
"""trainer.integer.calibrate."""

import pytest

from tests.tiny import ODD, STEM, calibrated, images_for, untrained
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate


def test_calibrating_twice_is_refused_and_changes_nothing():
    student = calibrated(ODD)
    before = dict(student.fracs)
    with pytest.raises(TrainerError, match="calibrated already"):
        calibrate(student, images_for(ODD, 4))
    assert student.fracs == before


def test_a_calibration_that_fails_leaves_the_student_as_it_was():
    student = untrained(ODD)
    with pytest.raises(Exception):  # noqa: B017
        calibrate(student, images_for(STEM, 4))
    assert student.fracs == {}
