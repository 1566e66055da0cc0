# SPDX-License-Identifier: MIT
"""Sources of MicroPython's source tree."""

import socket
import subprocess
from pathlib import Path

import pytest

from host_sim.setup import micropython
from host_sim.setup.apt_sources import parse_deb822
from host_sim.setup.shell import Failure

VERSION_HEADER = "#define MICROPY_VERSION_{} ({})\n"
INLINE_KEY = """\
Types: deb
URIs: https://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_inline_key_reaches_the_private_sources(tmp_path):
    [archive] = parse_deb822(INLINE_KEY)
    micropython.private_apt(tmp_path / "apt", archive)
    entry = (tmp_path / "apt" / "sources.list.d" / "micropython.sources").read_text()
    assert "Types: deb-src\n" in entry
    assert " mQINBF\n" in entry


def test_mpy_dir_that_is_no_source_tree(monkeypatch, tmp_path):
    monkeypatch.setenv("MPY_DIR", str(tmp_path))
    with pytest.raises(Failure, match=r"MPY_DIR=.* is not a MicroPython source tree"):
        micropython.source()


def header(version: str) -> str:
    """The lines of py/mpconfig.h for a version."""
    number, _, preview = version.partition("-")
    numbers = [*number.split("."), int(bool(preview))]
    names = ("MAJOR", "MINOR", "MICRO", "PRERELEASE")
    return "".join(VERSION_HEADER.format(name, number) for name, number in zip(names, numbers, strict=True))


def write_tree(folder: Path, version: str) -> Path:
    """A source tree with nothing but its version."""
    (folder / "py").mkdir(parents=True)
    (folder / "py/mpconfig.h").write_text(header(version))
    return folder


@pytest.mark.parametrize("version", ["1.25.0", "1.28.0", "1.29.0-preview"])
def test_version_of_a_tree(tmp_path, version):
    assert micropython.tree_version(write_tree(tmp_path / "tree", version)) == version
    assert micropython.tree_version(tmp_path) == "?"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A tree without fetched source, and a stand-in for Debian's archive with its version."""
    build = tmp_path / "build"
    build.mkdir()
    monkeypatch.delenv("MPY_DIR", raising=False)
    monkeypatch.setattr(micropython, "BUILD", build)
    monkeypatch.setattr(micropython, "SOURCE", build / "micropython-src")
    monkeypatch.setattr("host_sim.setup.shell.LOGS", tmp_path / "log")
    monkeypatch.setattr(micropython, "debian_archive", lambda *_: "an archive")
    monkeypatch.setattr(
        micropython,
        "fetch_from_debian",
        lambda work, _: write_tree(work / "micropython-1", micropython.versions()["debian"]),
    )
    return tmp_path


@pytest.fixture
def repository(empty, monkeypatch):
    """A MicroPython repository with one release, served by git."""
    tree = write_tree(empty / "origin", micropython.versions()["micropython"])
    git = ["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["tag", f"v{micropython.versions()['micropython']}"],
    ):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(micropython, "GIT_URL", tree.as_uri())
    return tree


def test_the_boards_version_is_cloned_first(repository):
    assert micropython.tree_version(micropython.source()) == micropython.versions()["micropython"]


def test_debians_version_where_git_reaches_nothing(empty, monkeypatch):
    monkeypatch.setattr(micropython, "GIT_URL", "http://127.0.0.1:9/micropython")
    assert micropython.tree_version(micropython.source()) == micropython.versions()["debian"]
    assert [path.name for path in (empty / "build").iterdir()] == ["micropython-src"]


def test_debians_version_without_git(repository, monkeypatch):
    which = micropython.shutil.which
    monkeypatch.setattr(micropython.shutil, "which", lambda name: None if name == "git" else which(name))
    assert micropython.tree_version(micropython.source()) == micropython.versions()["debian"]


def test_a_server_that_never_answers(empty, monkeypatch):
    """As behind some firewalls: the server accepts the connection and never answers."""
    monkeypatch.setattr(micropython, "ANSWER", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(micropython, "GIT_URL", f"http://127.0.0.1:{server.getsockname()[1]}/micropython")
        assert micropython.tree_version(micropython.source()) == micropython.versions()["debian"]


def test_neither_way(empty, monkeypatch):
    monkeypatch.setattr(micropython, "GIT_URL", "http://127.0.0.1:9/micropython")
    monkeypatch.setattr(micropython, "debian_archive", lambda *_: None)
    with pytest.raises(Failure, match=rf"^cloning MicroPython v{micropython.versions()['micropython']} failed: "):
        micropython.source()


@pytest.mark.parametrize(("version", "stays"), [("debian", True), ("micropython", True), ("1.20.0", False)])
def test_what_is_there_stays_unless_it_is_out_of_date(repository, version, stays):
    tree = write_tree(micropython.SOURCE, micropython.versions().get(version, version))
    (tree / "mark").touch()
    assert (micropython.source() / "mark").exists() == stays
