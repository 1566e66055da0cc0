# SPDX-License-Identifier: MIT
"""How the unix board is built, and on other versions of MicroPython."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from host_sim.boards import unix
from host_sim.setup.micropython import tree_version
from host_sim.setup.shell import ROOT, Failure
from tests.boards import wait_until

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


# As make does: what is there counts as made, and a file grows while it is written.
SLOW_MAKE = """\
#!{python}
import os, sys, time
from pathlib import Path
build = Path(next(word for word in sys.argv if word.startswith("BUILD="))[6:])
build.mkdir(parents=True, exist_ok=True)
for number in range(10):
    if not (path := build / str(number)).exists():
        with open(path, "w") as file:
            for letter in "part":
                file.write(letter)
                file.flush()
                time.sleep(float(os.environ.get('PAUSE', '0.01')))
(build / "micropython").write_text("".join((build / str(number)).read_text() for number in range(10)))
"""
BUILD_IT = """
import sys
from pathlib import Path
from host_sim.setup import shell
shell.BUILD, shell.LOGS = Path(sys.argv[1]), Path(sys.argv[1]) / "log"
from host_sim.boards import unix
unix.build("unix", Path(sys.argv[1]) / "unix", {}, ("VARIANT=standard",))
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Starts builds of a tree by a make that takes half a second, each in a session of its own."""
    (tmp_path / "tree" / "ports" / "unix").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text(SLOW_MAKE.format(python=sys.executable))
    make.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("MPY_DIR", str(tmp_path / "tree"))
    started = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", BUILD_IT, str(tmp_path / "build")]
        started.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL))
        return started[-1]

    (tmp_path / "build").mkdir()
    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_build_starts_anew(slow, tmp_path):
    """Processes and all, at moments of chance, until four left half a file; then built as if nothing had happened."""
    output, chance, halves = tmp_path / "build" / "unix", random.Random(14), 0
    for _ in range(60):
        shutil.rmtree(output, ignore_errors=True)
        process = slow()
        assert wait_until((output / "0").exists, 30)
        time.sleep(chance.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        halves += any(len(path.read_text()) < 4 for path in output.glob("[0-9]"))
        assert slow().wait() == 0
        assert (output / "micropython").read_text() == "part" * 10
        if halves == 4:
            return
    pytest.fail(f"only {halves} of 60 builds were killed with half a file")


def test_a_build_waits_for_the_make_of_a_killed_one(slow, tmp_path, monkeypatch):
    monkeypatch.setenv("PAUSE", "0.1")
    process = slow()
    monkeypatch.delenv("PAUSE")
    assert wait_until((tmp_path / "build" / "unix" / "0").exists, 30)
    process.kill()
    process.wait()
    assert slow().wait() == 0
    assert (tmp_path / "build" / "unix" / "micropython").read_text() == "part" * 10


def test_a_finished_build_is_kept(slow, tmp_path):
    assert slow().wait() == 0
    before = (tmp_path / "build" / "unix" / "3").stat().st_mtime_ns
    assert slow().wait() == 0
    assert (tmp_path / "build" / "unix" / "3").stat().st_mtime_ns == before


@pytest.mark.parametrize("character", [*"'$;(#%& :,=\"", "\udcff"])
def test_paths_that_make_does_not_take(monkeypatch, tmp_path, character):
    tree = tmp_path / f"a{character}b"
    (tree / "ports" / "unix").mkdir(parents=True)
    monkeypatch.setenv("MPY_DIR", str(tree))
    name = "a space" if character == " " else ascii(character)
    with pytest.raises(Failure, match=re.escape(f"the path of MicroPython's source has {name} in it")) as caught:
        unix.build("unix", tmp_path / "build", {}, ())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "build").exists()
