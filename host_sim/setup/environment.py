# SPDX-License-Identifier: MIT
"""The virtual environment and the system packages that the recipes need.

`python3 -m host_sim.setup.environment demo|lint|test|train|eval|lx7|flash|qemu` installs what that recipe misses and
nothing else. It runs on the system's own Python before any package exists, so it uses the standard library alone;
host_sim/unix_port.py and host_sim/board.py share its log files, progress lines and error lines.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older Python meets first
    sys.exit(f"error: Python 3.11 or newer is needed, {sys.executable} is older: set PYTHON to another one")

import argparse
import hashlib
import tomllib
from pathlib import Path

from host_sim.setup.apt import install_packages, missing_packages
from host_sim.setup.shell import ROOT, VENV, lock, one_line_errors, run, step

GROUPS = {
    "demo": ("light",),
    "lint": ("dev",),
    "test": ("light", "dev", "pictures", "train"),
    "train": ("light", "pictures", "train"),
    "eval": ("light", "pictures", "train"),
    "lx7": ("light", "pictures"),
    "flash": ("light", "flash"),
    "qemu": ("light",),
}


def python() -> Path:
    """The virtual environment's Python."""
    return VENV / "bin" / "python"


def make_venv() -> None:
    """Make the virtual environment, anew when another Python made it."""
    maker = f"{sys.version}\n{sys.base_prefix}\n"
    stamp = VENV / "made-by"
    if python().exists() and (running_inside() or (stamp.is_file() and stamp.read_text() == maker)):
        return
    # One that another tool made is kept and only added to.
    clear = ["--clear"] if stamp.exists() else []
    with step("making .venv"):
        run([sys.executable, "-m", "venv", *clear, VENV], "making the virtual environment", "venv.log")
        stamp.write_text(maker)


def running_inside() -> bool:
    """Whether this very process runs on the virtual environment's Python."""
    return Path(sys.prefix) == VENV


def requirements(group: str) -> tuple[list[str], list[str]]:
    """A group's pinned requirements from pyproject.toml: those with and those without their dependencies."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    return groups[group], groups.get(f"{group}-without-dependencies", [])


def install_group(group: str) -> None:
    """Install a group of pinned requirements, unless its stamp says that it is there."""
    usual, bare = requirements(group)
    digest = hashlib.sha256(repr((usual, bare)).encode()).hexdigest()
    stamp = VENV / f"installed-{group}"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    pip = [python(), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    with step(f"installing Python packages ({group})"):
        run([*pip, *usual], f"installing the Python packages of group {group}", f"pip-{group}.log")
        if bare:
            log = f"pip-{group}-without-dependencies.log"
            run([*pip, "--no-deps", *bare], f"installing the Python packages of group {group}", log)
        stamp.write_text(digest)


def prepare(task: str) -> None:
    """Install whatever the task (a key of GROUPS) still lacks."""
    install_packages(missing_packages(task))
    with lock("environment"):
        make_venv()
        for group in GROUPS[task]:
            install_group(group)


@one_line_errors
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Install what a recipe needs.")
    parser.add_argument("task", choices=GROUPS)
    prepare(parser.parse_args().task)


if __name__ == "__main__":
    sys.exit(main())
