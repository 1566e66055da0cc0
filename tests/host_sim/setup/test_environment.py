# SPDX-License-Identifier: MIT
"""Error lines, stamps and apt sources."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim import unix_port
from host_sim.setup import environment
from host_sim.setup.environment import Failure

NAMED_PACKAGES = {"the compiler": "gcc", "make": "make"}


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """A repository root of the test's own."""
    for name, path in (("ROOT", ""), ("BUILD", "build"), ("LOGS", "build/log"), ("VENV", ".venv")):
        monkeypatch.setattr(environment, name, tmp_path / path)
    return tmp_path


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A PATH that holds only the scripts given to the returned function."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(name: str, body: str) -> None:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return add


def test_empty_path_names_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "host_sim.setup.environment", "demo"]
    result = subprocess.run(command, cwd=environment.ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: missing: gcc, make")


def test_missing_tool(tree, tools):
    with pytest.raises(Failure, match="cloning failed: git is not installed"):
        environment.run(["git", "clone"], "cloning", "git.log")


def test_not_root(monkeypatch, tools):
    tools("apt-get", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    line = "sudo apt-get -o DPkg::Lock::Timeout=300 install -y gcc make"
    with pytest.raises(Failure, match=f"missing: the compiler, make; .*{line}$"):
        environment.install_packages(NAMED_PACKAGES)


def test_apt_that_fails(monkeypatch, tree, tools):
    tools("apt-get", f'echo "$@" >> {tree}/calls; echo "E: Unable to locate package gcc"; exit 100')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Failure, match=r"the compiler.*does not have it.*build/log/apt-update\.log"):
        environment.install_packages(NAMED_PACKAGES)
    assert [line.split()[2] for line in (tree / "calls").read_text().splitlines()] == ["install", "update"]


def test_apt_after_an_update(monkeypatch, tree, tools):
    tools("apt-get", f"case $3 in update) : > {tree}/lists;; *) [ -e {tree}/lists ];; esac")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environment.install_packages(NAMED_PACKAGES)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("tar: x: Cannot write: No space left on device", "disk is full"),
        ("OSError: [Errno 28] no space", "disk is full"),
        ("Err:1 Temporary failure resolving 'mirror.example'", "network"),
        ("fatal: unable to access: Could not resolve host: example", "network"),
        ("x.c:3:1: error: expected ';'", "x.c:3:1: error: expected ';'"),
        ("", "sh stopped with status 3"),
    ],
)
def test_reason_comes_from_the_output(tree, output, words):
    with pytest.raises(Failure) as failure:
        environment.run(["sh", "-c", 'echo "$0"; exit 3', output], "working", "x.log")
    message = str(failure.value)
    assert message.startswith("working failed: ")
    assert words in message
    assert message.endswith("(its output: build/log/x.log)")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Failure("gcc is missing"), "gcc is missing"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), "disk is full (/some/file)"),
        (OSError(errno.EACCES, "Permission denied", "/some/file"), "Permission denied"),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError"),
    ],
)
def test_every_error_is_one_line(tree, capsys, error, words):
    @environment.one_line_errors
    def main() -> None:
        raise error

    assert main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_full_disk_while_logging(monkeypatch, tree, capsys):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_space)
    main = environment.one_line_errors(lambda: environment.run(["true"], "working", "x.log"))
    assert main() == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_venv_module(monkeypatch, tree):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    assert environment.missing_packages("lint") == {"Python's venv module": "python3-venv"}


@pytest.fixture
def llvm(tools):
    """Make the tools of one version of LLVM, with the targets that llvm-mc names."""

    def make(version: int, *targets: str) -> None:
        tools(f"clang-{version}", "exit 0")
        lines = "".join(f"    {target} - as llvm-mc prints it\\n" for target in targets)
        tools(f"llvm-mc-{version}", f"printf '  Registered Targets:\\n{lines}'")

    return make


def test_newest_llvm_that_knows_xtensa(tools, llvm):
    assert environment.xtensa_llvm() is None
    llvm(14, "xtensa")
    llvm(22, "x86", "xtensa")
    assert environment.xtensa_llvm() == 22
    llvm(23, "x86", "notxtensa")
    tools("llvm-mc-25", "echo '  xtensa'")
    assert environment.xtensa_llvm() == 22
    llvm(24, "xtensa")
    assert environment.xtensa_llvm() == 24


def test_packages_for_xtensa(tools, llvm):
    packages = {"clang-22", "llvm-22", "binutils-xtensa-lx106"}
    assert packages < set(environment.missing_packages("lx7").values())
    assert packages | {"qemu-system-misc"} < set(environment.missing_packages("test").values())
    assert not packages & set(environment.missing_packages("train").values())
    llvm(23, "xtensa")
    tools("xtensa-lx106-elf-ld", "exit 0")
    assert not packages & set(environment.missing_packages("test").values())
    assert "qemu-system-misc" not in environment.missing_packages("lx7").values()
    tools("qemu-system-xtensa", "exit 0")
    assert "qemu-system-misc" not in environment.missing_packages("test").values()


def test_packages_for_the_board_in_qemu(tools):
    packages = {"gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"}
    assert packages < set(environment.missing_packages("qemu").values())
    assert packages < set(environment.missing_packages("test").values())
    assert not packages & set(environment.missing_packages("demo").values())
    # A compiler without headers is what apt leaves without its recommendations.
    tools("arm-none-eabi-gcc", "exit 1")
    tools("qemu-system-arm", "exit 0")
    assert packages & set(environment.missing_packages("qemu").values()) == {"libnewlib-arm-none-eabi"}
    tools("arm-none-eabi-gcc", "exit 0")
    assert not packages & set(environment.missing_packages("qemu").values())


def test_only_tasks_with_pictures_need_the_dataset(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "DATASET", tmp_path / "absent")
    assert "dataset-fashion-mnist" in environment.missing_packages("eval").values()
    assert "dataset-fashion-mnist" not in environment.missing_packages("lx7").values()


def test_groups_are_pinned():
    for group in {group for groups in environment.GROUPS.values() for group in groups}:
        usual, bare = environment.requirements(group)
        assert usual
        assert all("==" in requirement for requirement in usual + bare)


def test_demo_needs_no_training_packages():
    usual, _ = environment.requirements("light")
    assert environment.GROUPS["demo"] == ("light",)
    assert not any(requirement.startswith(("torch", "timm")) for requirement in usual)


def test_second_install_does_nothing(monkeypatch, tree):
    requirement = '[dependency-groups]\nlight = ["one==1"]\nlight-without-dependencies = ["two==2"]\n'
    (tree / "pyproject.toml").write_text(requirement)
    (tree / ".venv").mkdir()
    calls = []
    monkeypatch.setattr(environment, "run", lambda command, *_: calls.append(command))
    environment.install_group("light")
    assert [command[-1] for command in calls] == ["one==1", "two==2"]
    assert "--no-deps" in calls[1]
    environment.install_group("light")
    assert len(calls) == 2
    (tree / "pyproject.toml").write_text(requirement.replace("one==1", "one==1.1"))
    environment.install_group("light")
    assert len(calls) == 4


DEB822 = """\
Types: deb
# a snapshot of the archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: https://vendor.example/tools
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""

ONE_LINE = """\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/vendor.gpg] https://vendor.example/tools bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb-src http://mirror.example/debian bookworm main
deb [ signed-by=/keys/debian-archive.gpg ] http://mirror.example/debian/ bookworm main non-free # comment
deb http://mirror.example/debian-security bookworm-security main
"""


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("debian.sources", DEB822, "/usr/share/keyrings/debian-archive-keyring.gpg"),
        ("debian.list", ONE_LINE, "/keys/debian-archive.gpg"),
    ],
)
def test_debian_archive_among_the_sources(tmp_path, name, text, key):
    directory = tmp_path / "sources.list.d"
    directory.mkdir()
    (directory / name).write_text(text)
    (directory / "old.sources.disabled").write_text(DEB822.replace("mirror", "disabled"))
    archive = unix_port.debian_archive(unix_port.apt_sources(tmp_path), "bookworm")
    assert archive.uri.rstrip("/") == "http://mirror.example/debian"
    assert archive.components[0] == "main"
    assert archive.signed_by == key


def test_plain_sources_list(tmp_path):
    (tmp_path / "sources.list").write_text("deb mirror+file:/etc/apt/mirrors/debian.list trixie main\n")
    archive = unix_port.debian_archive(unix_port.apt_sources(tmp_path), "trixie")
    assert archive == ("mirror+file:/etc/apt/mirrors/debian.list", ("trixie",), ("main",), "")


def test_no_debian_archive():
    sources = list(unix_port.parse_one_line("deb https://vendor.example/tools bookworm main\n"))
    assert unix_port.debian_archive(sources, "bookworm") is None
    assert unix_port.debian_archive([], "bookworm") is None


def test_inline_key_reaches_the_private_sources(tmp_path):
    archive = next(source for source in unix_port.parse_deb822(DEB822) if "vendor" in source.uri)
    unix_port.private_apt(tmp_path / "apt", archive)
    entry = (tmp_path / "apt" / "sources.list.d" / "micropython.sources").read_text()
    assert "Types: deb-src\n" in entry
    assert " mQINBF\n" in entry


def test_mpy_dir_that_is_no_source_tree(monkeypatch, tmp_path):
    monkeypatch.setenv("MPY_DIR", str(tmp_path))
    with pytest.raises(Failure, match=r"MPY_DIR=.* is not a MicroPython source tree"):
        unix_port.source()


def test_codename(tmp_path):
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    assert unix_port.debian_codename(release) == "bookworm"
    release.write_text("ID=other\nVERSION_CODENAME=noble\n")
    assert unix_port.debian_codename(release) == ""
    assert unix_port.debian_codename(tmp_path / "absent") == ""
