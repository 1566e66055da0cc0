# SPDX-License-Identifier: MIT
"""trainer.errors: one family of errors for recipes and trainer."""

import pytest

from host_sim.setup.shell import one_line_errors
from trainer.errors import TrainerError, require


def test_scripts_of_the_recipes_show_the_trainers_errors_as_one_line(capsys):
    def main():
        raise TrainerError("photo.jpg: not a readable picture (empty)")

    assert one_line_errors(main)() == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(TrainerError, match="too small"):
        require(False, "too small")
    require(True, "too small")
