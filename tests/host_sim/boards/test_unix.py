# SPDX-License-Identifier: MIT
"""The unix board on other versions of MicroPython."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim.boards import unix
from host_sim.setup.micropython import tree_version
from host_sim.setup.shell import ROOT

# Tests run for each tree of MPY_DIRS: the board as seen by mpremote, the module's limits, and the port for the chip.
BOARD_TESTS = (
    "tests/host_sim/boards/test_server.py",
    "tests/host_sim/boards/test_list.py",
    "tests/firmware/test_board_files.py",
)
MODEL_TESTS = tuple(f"tests/firmware/test_{name}.py" for name in ("arena", "equality", "memory", "package", "scripts"))
TREES = [path for path in os.environ.get("MPY_DIRS", "").split(os.pathsep) if path]


def test_each_tree_has_an_output_of_its_own(monkeypatch, tmp_path):
    names = set()
    for tree in (None, tmp_path / "a", tmp_path / "b"):
        monkeypatch.setenv("MPY_DIR", str(tree)) if tree else monkeypatch.delenv("MPY_DIR", raising=False)
        names |= {unix.output("unix"), unix.output("qemu")}
    assert len(names) == 6
    assert {path.parent for path in names} == {unix.BUILD}


def test_another_version_at_the_same_place_is_built_anew(monkeypatch, tmp_path):
    """Files of an older version may be older than the objects of a newer one, and the other way round."""
    header = tmp_path / "tree" / "py" / "mpconfig.h"
    header.parent.mkdir(parents=True)
    monkeypatch.setattr(unix, "source", lambda: tmp_path / "tree")
    monkeypatch.setattr(unix, "run", lambda *_: None)
    made = tmp_path / "output" / "object.o"
    for minor, stays in ((25, False), (25, True), (28, False)):
        header.write_text(f"#define MICROPY_VERSION_MAJOR 1\n#define MICROPY_VERSION_MINOR {minor}\n")
        header.open("a").write("#define MICROPY_VERSION_MICRO 0\n")
        unix.build("unix", made.parent, {}, [])
        assert made.exists() == stays
        made.touch()


@pytest.mark.skipif(not TREES, reason="MPY_DIRS names no source trees of MicroPython (PATH:PATH)")
@pytest.mark.parametrize("tests", [BOARD_TESTS, MODEL_TESTS], ids=["board", "model"])
@pytest.mark.parametrize("tree", TREES or ["none"], ids=lambda path: tree_version(Path(path)))
def test_boards_on_other_versions(tree, tests):
    """The unix board of a tree builds and passes the board tests (minutes per tree)."""
    environment = os.environ | {"MPY_DIR": tree}
    environment.pop("MPY_DIRS")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "not qemu and not esp32s3", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    print(done.stdout.splitlines()[-1])
