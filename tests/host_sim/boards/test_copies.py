# SPDX-License-Identifier: MIT
"""Folders that go with the process that made them."""

import os
import signal
import subprocess
import sys

import pytest

from host_sim.boards.copies import FILES, LOCK, PREFIXES, copies
from host_sim.setup import shell
from host_sim.setup.shell import ROOT

MAKE = """
import sys, time
from pathlib import Path
from host_sim.setup import shell
shell.BUILD = Path(sys.argv[1])
from host_sim.boards.copies import copies
with copies("flash-") as folder:
    (folder / "model").write_text("large")
    print(folder.parent, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def board(monkeypatch, tmp_path):
    """build/board of the test's own."""
    monkeypatch.setattr(shell, "BUILD", tmp_path)
    return tmp_path / "board"


def test_it_is_empty_and_goes(board):
    for prefix in PREFIXES:
        with copies(prefix) as folder:
            assert list(folder.iterdir()) == []
            assert folder.parent.name.startswith(prefix)
            (folder / "x").touch()
        assert list(board.iterdir()) == []


def test_what_killed_processes_left_goes_and_nothing_else(board, tmp_path):
    command = [sys.executable, "-c", MAKE, tmp_path]
    makers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    folders = [maker.stdout.readline().strip() for maker in makers]
    mine = board / "flash-of-somebody"
    mine.mkdir()
    (mine / "file").touch()
    try:
        for maker in makers[:3]:
            os.kill(maker.pid, signal.SIGKILL)
            maker.wait()
        with open(f"{folders[1]}/{FILES}/open", "w"), copies("qemu-") as folder:
            assert {str(path) for path in board.iterdir()} == {folders[3], str(mine), str(folder.parent)}
    finally:
        makers[3].kill()
        for maker in makers:
            maker.communicate()
    assert (mine / "file").exists()


def test_half_made_and_half_removed_ones_go(board):
    (board / "flash-a").mkdir(parents=True)  # killed before its lock was there
    (board / "qemu-b").mkdir()
    (board / "qemu-b" / LOCK).touch()  # its files are gone already
    with copies("flash-") as folder:
        assert list(board.iterdir()) == [folder.parent]
