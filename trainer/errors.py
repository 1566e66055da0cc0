# SPDX-License-Identifier: MIT
"""The one exception that the command line shows as a single line."""

from host_sim.setup.shell import Failure


class TrainerError(Failure):
    """A problem that the user can correct; its text names the file, field or argument and the valid values.

    A subclass of the recipes' Failure, so that scripts that use both need to catch only one.
    """


LONGEST_LINE = 2000


def one_line(text: object) -> str:
    """`text` as a single line for a terminal: control characters escaped, long texts cut in their middle."""
    line = " ".join(str(text).split())
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} .. {line[-LONGEST_LINE // 2 :]}"
    return line


def require(condition: bool, what: str) -> None:
    """Raise TrainerError(what) unless `condition` holds."""
    if not condition:
        raise TrainerError(what)
