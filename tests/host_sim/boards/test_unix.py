# SPDX-License-Identifier: MIT
"""Where MicroPython's source comes from, and the virtual boards on other versions of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim.boards import unix as unix_port
from host_sim.setup.micropython import versions
from host_sim.setup.shell import ROOT, Failure

VERSION_HEADER = "#define MICROPY_VERSION_{} ({})\n"
# What runs on a tree of MPY_DIRS: all that mpremote sees of a board, the module's limits, and the port for the chip.
BOARD_TESTS = ("tests/host_sim/test_board.py", "tests/host_sim/test_boards.py", "tests/firmware/test_boards.py")
MODEL_TESTS = tuple(f"tests/firmware/test_{name}.py" for name in ("arena", "equality", "memory", "package", "scripts"))
TREES = [path for path in os.environ.get("MPY_DIRS", "").split(os.pathsep) if path]


def header(version: str) -> str:
    """What py/mpconfig.h says of a version."""
    number, _, preview = version.partition("-")
    numbers = [*number.split("."), int(bool(preview))]
    names = ("MAJOR", "MINOR", "MICRO", "PRERELEASE")
    return "".join(VERSION_HEADER.format(name, number) for name, number in zip(names, numbers, strict=True))


def write_tree(folder: Path, version: str) -> Path:
    """A source tree as far as its version goes."""
    (folder / "py").mkdir(parents=True)
    (folder / "py/mpconfig.h").write_text(header(version))
    return folder


@pytest.mark.parametrize("version", ["1.25.0", "1.28.0", "1.29.0-preview"])
def test_version_of_a_tree(tmp_path, version):
    assert unix_port.tree_version(write_tree(tmp_path / "tree", version)) == version
    assert unix_port.tree_version(tmp_path) == "?"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A tree in which nothing was fetched yet, and an archive of Debian's with its version."""
    build = tmp_path / "build"
    build.mkdir()
    monkeypatch.delenv("MPY_DIR", raising=False)
    monkeypatch.setattr(unix_port, "BUILD", build)
    monkeypatch.setattr(unix_port, "SOURCE", build / "micropython-src")
    monkeypatch.setattr("host_sim.setup.shell.LOGS", tmp_path / "log")
    monkeypatch.setattr(unix_port, "debian_archive", lambda *_: "an archive")
    monkeypatch.setattr(
        unix_port, "fetch_from_debian", lambda work, _: write_tree(work / "micropython-1", versions()["debian"])
    )
    return tmp_path


@pytest.fixture
def repository(empty, monkeypatch):
    """A repository of MicroPython's with one release, served by git itself."""
    tree = write_tree(empty / "origin", versions()["micropython"])
    git = ["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", f"v{versions()['micropython']}"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(unix_port, "GIT_URL", tree.as_uri())
    return tree


def test_the_boards_version_is_cloned_first(repository):
    assert unix_port.tree_version(unix_port.source()) == versions()["micropython"]


def test_debians_version_where_git_reaches_nothing(empty, monkeypatch):
    monkeypatch.setattr(unix_port, "GIT_URL", "http://127.0.0.1:9/micropython")
    assert unix_port.tree_version(unix_port.source()) == versions()["debian"]
    assert [path.name for path in (empty / "build").iterdir()] == ["micropython-src"]


def test_debians_version_without_git(repository, monkeypatch):
    which = unix_port.shutil.which
    monkeypatch.setattr(unix_port.shutil, "which", lambda name: None if name == "git" else which(name))
    assert unix_port.tree_version(unix_port.source()) == versions()["debian"]


def test_a_server_that_never_answers(empty, monkeypatch):
    """As behind some firewalls: the connection comes about, and nothing else."""
    monkeypatch.setattr(unix_port, "ANSWER", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(unix_port, "GIT_URL", f"http://127.0.0.1:{server.getsockname()[1]}/micropython")
        assert unix_port.tree_version(unix_port.source()) == versions()["debian"]


def test_neither_way(empty, monkeypatch):
    monkeypatch.setattr(unix_port, "GIT_URL", "http://127.0.0.1:9/micropython")
    monkeypatch.setattr(unix_port, "debian_archive", lambda *_: None)
    with pytest.raises(Failure, match=rf"^cloning MicroPython v{versions()['micropython']} failed: "):
        unix_port.source()


@pytest.mark.parametrize(("version", "stays"), [("debian", True), ("micropython", True), ("1.20.0", False)])
def test_what_is_there_stays_unless_it_is_out_of_date(repository, version, stays):
    tree = write_tree(unix_port.SOURCE, versions().get(version, version))
    (tree / "mark").touch()
    assert (unix_port.source() / "mark").exists() == stays


def test_each_tree_has_an_output_of_its_own(monkeypatch, tmp_path):
    names = set()
    for tree in (None, tmp_path / "a", tmp_path / "b"):
        monkeypatch.setenv("MPY_DIR", str(tree)) if tree else monkeypatch.delenv("MPY_DIR", raising=False)
        names |= {unix_port.output("unix"), unix_port.output("qemu")}
    assert len(names) == 6
    assert {path.parent for path in names} == {unix_port.BUILD}


@pytest.mark.skipif(not TREES, reason="MPY_DIRS names no source trees of MicroPython (PATH:PATH)")
@pytest.mark.parametrize("tests", [BOARD_TESTS, MODEL_TESTS], ids=["board", "model"])
@pytest.mark.parametrize("tree", TREES or ["none"], ids=lambda path: unix_port.tree_version(Path(path)))
def test_boards_on_other_versions(tree, tests):
    """The unix board of a tree is built and passes the board tests (takes minutes for each)."""
    environment = os.environ | {"MPY_DIR": tree}
    environment.pop("MPY_DIRS")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "not qemu and not esp32s3", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    print(done.stdout.splitlines()[-1])
