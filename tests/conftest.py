# SPDX-License-Identifier: MIT
"""Puts host_sim/ and firmware/ on the path (`import ternary`, `import ftervit`), and starts virtual boards."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
for folder in ("firmware", "host_sim"):
    sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def program() -> Path:
    """The unix port with our modules."""
    # Imported here: the sanitized run needs no board.
    from host_sim.boards.unix import firmware

    return firmware()


@pytest.fixture(scope="module")
def board(program):
    """A board that the tests of a module share: every mpremote command starts with a soft reset."""
    from host_sim.boards.client import Board

    with Board(program=program) as board:
        yield board


@pytest.fixture
def own_board(program, tmp_path):
    """A board that a test may break."""
    from host_sim.boards.client import Board

    with Board(program=program, flash=tmp_path / "flash") as board:
        yield board


@pytest.fixture
def terminal(board):
    """A plain client at the board's friendly prompt, without mpremote."""
    from tests.boards import Terminal

    with Terminal.of(board.path) as terminal:
        terminal.fresh_prompt()
        yield terminal
