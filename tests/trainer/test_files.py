# SPDX-License-Identifier: MIT
"""Files that several processes write at the same time."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from trainer.errors import TrainerError
from trainer.files import write_atomically

WRITER = """
import sys
from pathlib import Path
from trainer.files import write_atomically
for _ in range(200):
    write_atomically(sys.argv[2].encode() * 5000, Path(sys.argv[1]))
"""


def test_processes_write_one_file_in_turn(tmp_path):
    """Whoever is last, the file is whole; nobody fails, and nothing stays beside it."""
    path = tmp_path / "new folder" / "shared.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter], cwd=ROOT) for letter in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    content = path.read_text()
    assert content in ("a" * 5000, "b" * 5000, "c" * 5000)
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_replaced(tmp_path):
    path = tmp_path / "kept.json"
    (tmp_path / ".kept.json.tmp").write_bytes(b"half" * 100)
    write_atomically(b"whole", path)
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(TrainerError, match=r"taken: cannot be written \(Is a directory\)"):
        write_atomically(b"x", tmp_path / "taken")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]
