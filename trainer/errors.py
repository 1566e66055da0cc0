# SPDX-License-Identifier: MIT
"""The one exception that the command line shows as a single line."""


class TrainerError(Exception):
    """A problem the user can mend; its text names the file, field or argument and what would be right."""


def require(condition: bool, what: str) -> None:
    """Refuse a setting."""
    if not condition:
        raise TrainerError(what)
