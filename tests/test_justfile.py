# SPDX-License-Identifier: MIT
"""Recipes that are shell, and every recipe without arguments."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.commands import JUST, Recipes
from tests.conftest import ROOT

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


# What a recipe without arguments wants.
WANTS = {
    "romfs": "just romfs: error: the following arguments are required: MODEL",
    "lx7": "just lx7: error: the following arguments are required: COMMAND",
    "flash": "error: recipe `flash` got 0",
    "deploy": "error: recipe `deploy` got 0",
    "prepare": "error: recipe `prepare` got 0",
    "own-pictures": "error: recipe `own-pictures` got 0",
}


def recipe_names() -> list[str]:
    """All recipes, private ones too."""
    if not JUST:
        return []
    dump = [JUST, "--justfile", ROOT / "justfile", "--dump", "--dump-format", "json"]
    return sorted(json.loads(subprocess.check_output(dump))["recipes"])


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    return Recipes(tmp_path_factory.mktemp("recipes"))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_without_arguments_works_or_says_what_it_wants(recipes, name):
    said, wanted = recipes.answer(name).lower(), WANTS.get(name, "").lower()
    assert said.startswith(wanted) if wanted else said == ""


def test_answers_are_the_programs_own(recipes):
    assert recipes.answer("report", "--nonsense").endswith("unrecognized arguments: --nonsense")
    assert "invalid choice: 'nowhere'" in recipes.answer("prepare", "nowhere")
    assert recipes.answer("demo", "qemu") == ""


def test_firmware_asks_for_a_board():
    words = ["-m", "host_sim.esp32.firmware", "build"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: give a board (FTERVIT_S3_N16R8, FTERVIT_S3_N8R8), or --check ELF\n"
