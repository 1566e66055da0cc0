# SPDX-License-Identifier: MIT
"""Recipes that are shell."""

import os
import shutil
import signal
import subprocess

import pytest

from tests.conftest import ROOT

JUST = shutil.which("just")
pytestmark = pytest.mark.skipif(not JUST, reason="just is not installed")
# Removes a file of each folder and is killed, with the shell that called it.
KILLED_RM = """\
#!/bin/sh
for path; do
    found=$(find "$path" -name part-1 2> /dev/null)
    [ -z "$found" ] || { /bin/rm $found; kill -9 0; }
done
"""


def clean(folder, **options) -> int:
    """Run `just clean` in a folder with a build; returns its status."""
    command = [JUST, "--justfile", ROOT / "justfile", "--working-directory", folder, "clean"]
    return subprocess.run(command, capture_output=True, start_new_session=True, **options).returncode


@pytest.fixture
def tree(tmp_path):
    """A tree with two builds and a training."""
    for name in ("unix", "micropython-src", "train"):
        (tmp_path / "build" / name).mkdir(parents=True)
        for part in (1, 2):
            (tmp_path / "build" / name / f"part-{part}").touch()
    (tmp_path / "build" / ".host.lock").touch()
    return tmp_path


def test_clean_keeps_training_alone(tree):
    assert clean(tree) == 0
    assert [path.name for path in (tree / "build").iterdir()] == ["train"]
    assert len(list((tree / "build" / "train").iterdir())) == 2
    assert clean(tree) == 0
    shutil.rmtree(tree / "build")
    assert clean(tree) == 0
    assert list(tree.iterdir()) == []


def test_a_killed_clean_leaves_nothing_in_part(tree):
    (tree / "bin").mkdir()
    (tree / "bin" / "rm").write_text(KILLED_RM)
    (tree / "bin" / "rm").chmod(0o755)
    environment = os.environ | {"PATH": f"{tree / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    assert clean(tree, env=environment) == -signal.SIGKILL
    for name in ("unix", "micropython-src", "train"):
        folder = tree / "build" / name
        assert not folder.exists() or len(list(folder.iterdir())) == 2
    assert clean(tree) == 0
    assert [path.name for path in (tree / "build").iterdir()] == ["train"]
