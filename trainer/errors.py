# SPDX-License-Identifier: MIT
"""The one exception that the command line shows as a single line."""

from host_sim.setup.shell import Failure


class TrainerError(Failure):
    """A problem that the user can correct; its text names the file, field or argument and what would be right.

    A Failure as those of the recipes, so that scripts which use both catch one kind.
    """


def require(condition: bool, what: str) -> None:
    """Raise TrainerError(what) unless `condition` holds."""
    if not condition:
        raise TrainerError(what)
