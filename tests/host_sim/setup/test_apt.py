# SPDX-License-Identifier: MIT
"""System packages: finding missing ones and installing them."""

import os
import shutil
import subprocess
import sys

import pytest

from host_sim.setup import apt
from host_sim.setup.shell import ROOT, Failure

NAMED_PACKAGES = {"the compiler": "gcc", "make": "make"}


def test_empty_path_names_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "host_sim.setup.environment", "demo"]
    result = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: missing: gcc, make")


def test_not_root(monkeypatch, tools):
    tools("apt-get", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    line = "sudo apt-get -o DPkg::Lock::Timeout=300 install -y gcc make"
    with pytest.raises(Failure, match=f"missing: the compiler, make; .*{line}$"):
        apt.install_packages(NAMED_PACKAGES)


def test_apt_that_fails(monkeypatch, tree, tools):
    tools("apt-get", f'echo "$@" >> {tree}/calls; echo "E: Unable to locate package gcc"; exit 100')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Failure, match=r"the compiler.*does not have it.*build/log/apt-update\.log"):
        apt.install_packages(NAMED_PACKAGES)
    assert [line.split()[2] for line in (tree / "calls").read_text().splitlines()] == ["install", "update"]


def test_apt_after_an_update(monkeypatch, tree, tools):
    tools("apt-get", f"case $3 in update) : > {tree}/lists;; *) [ -e {tree}/lists ];; esac")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    apt.install_packages(NAMED_PACKAGES)


def test_missing_venv_module(monkeypatch, tree):
    monkeypatch.setattr(apt.importlib.util, "find_spec", lambda name: None)
    assert apt.missing_packages("lint") == {"Python's venv module": "python3-venv"}


@pytest.fixture
def llvm(tools):
    """Create the tools of one LLVM version, with the targets that llvm-mc lists."""

    def make(version: int, *targets: str) -> None:
        tools(f"clang-{version}", "exit 0")
        lines = "".join(f"    {target} - as llvm-mc prints it\\n" for target in targets)
        tools(f"llvm-mc-{version}", f"printf '  Registered Targets:\\n{lines}'")

    return make


def test_newest_llvm_that_knows_xtensa(tools, llvm):
    assert apt.xtensa_llvm() is None
    llvm(14, "xtensa")
    llvm(22, "x86", "xtensa")
    assert apt.xtensa_llvm() == 22
    llvm(23, "x86", "notxtensa")
    tools("llvm-mc-25", "echo '  xtensa'")
    assert apt.xtensa_llvm() == 22
    llvm(24, "xtensa")
    assert apt.xtensa_llvm() == 24


def test_packages_for_xtensa(tools, llvm):
    packages = {"clang-22", "llvm-22", "binutils-xtensa-lx106"}
    assert packages < set(apt.missing_packages("lx7").values())
    assert packages | {"qemu-system-misc"} < set(apt.missing_packages("test").values())
    assert not packages & set(apt.missing_packages("train").values())
    llvm(23, "xtensa")
    tools("xtensa-lx106-elf-ld", "exit 0")
    assert not packages & set(apt.missing_packages("test").values())
    assert "qemu-system-misc" not in apt.missing_packages("lx7").values()
    tools("qemu-system-xtensa", "exit 0")
    assert "qemu-system-misc" not in apt.missing_packages("test").values()


def test_packages_for_the_board_in_qemu(tools):
    packages = {"gcc-arm-none-eabi", "libnewlib-dev", "qemu-system-arm"}
    assert packages < set(apt.missing_packages("qemu").values())
    assert packages < set(apt.missing_packages("test").values())
    assert not packages & set(apt.missing_packages("demo").values())
    # Without recommended packages, apt installs a compiler without headers.
    tools("arm-none-eabi-gcc", "exit 1")
    tools("qemu-system-arm", "exit 0")
    assert packages & set(apt.missing_packages("qemu").values()) == {"libnewlib-dev"}
    tools("arm-none-eabi-gcc", "exit 0")
    assert not packages & set(apt.missing_packages("qemu").values())


def test_only_tasks_with_pictures_need_the_dataset(monkeypatch, tmp_path):
    monkeypatch.setattr(apt, "DATASET", tmp_path / "absent")
    assert "dataset-fashion-mnist" in apt.missing_packages("eval").values()
    assert "dataset-fashion-mnist" not in apt.missing_packages("lx7").values()
    # Elsewhere own pictures need none.
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "apt-get" else found(name))
    assert "dataset-fashion-mnist" not in apt.missing_packages("train").values()


def test_packages_for_the_page(tools):
    packages = {"emscripten", "nodejs", "npm"}
    assert packages < set(apt.missing_packages("web").values())
    assert packages | {"chromium"} < set(apt.missing_packages("test").values())
    assert packages | {"chromium"} < set(apt.missing_packages("browser").values())
    assert "chromium" not in apt.missing_packages("web").values()
    assert not packages & set(apt.missing_packages("demo").values())
    for tool in ("emcc", "node", "npm", "google-chrome"):
        tools(tool, "exit 0")
    assert not (packages | {"chromium"}) & set(apt.missing_packages("browser").values())
