# SPDX-License-Identifier: MIT
"""Configures MicroPython's esp32 port for one of our boards, with idf/ for ESP-IDF, and reads how its targets compile.

The port compiles the sources of a user module twice: for the component `main`, a static library, and for the
executable, whose copy is linked.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from host_sim.boards import unix
from host_sim.esp32.firmware import MODULES
from host_sim.setup.micropython import versions
from host_sim.setup.shell import BUILD, ROOT, lock

IDF = Path(__file__).resolve().parent / "idf"
BOARDS = ROOT / "firmware" / "boards"
BOARD = BOARDS / "FTERVIT_S3_N16R8"
COPIES = {"component": "__idf_main.dir", "linked": "micropython.elf.dir"}
# Left out: debug information, made for Espressif's linker; options that ignore warnings; options unknown to clang.
NOT_FOR_CLANG = "-g|-Wno-error=|-Wno-clobbered$"


class Command(NamedTuple):
    """A compiler's command line for one source, without the compiler, the source and the output."""

    arguments: tuple[str, ...]

    def values(self, option: str) -> list[str]:
        """The values of a one-letter option (`-D`), with or without a space."""
        words = iter(self.arguments)
        found = [word[2:] or next(words) for word in words if word.startswith(option)]
        return found

    def definitions(self) -> dict[str, str]:
        """Macros and their values."""
        return {name: value for name, _, value in (text.partition("=") for text in self.values("-D"))}

    def optimisation(self) -> str:
        """The effective optimisation option: the last one."""
        return next((word for word in reversed(self.arguments) if word.startswith("-O")), "-O0")


class Configured(NamedTuple):
    """A build folder, its targets' commands by copy (COPIES) and source, and some of CMake's variables, as lists."""

    folder: Path
    commands: dict[str, dict[Path, Command]]
    variables: dict[str, list[str]]


def complete(tree: Path, folder: Path) -> Path:
    """A MicroPython tree of links, with empty files where CMake needs some that Debian's package lacks."""
    for place in (".", "lib", "lib/micropython-lib", "lib/berkeley-db-1.xx"):
        (folder / place).mkdir(parents=True)
        for path in (tree / place).glob("*"):
            if path.name not in ("lib", "micropython-lib", "berkeley-db-1.xx"):
                (folder / place / path.name).symlink_to(path)
    sources = re.findall(r"\$\{MICROPY_LIB_BERKELEY_DIR\}/(\S+\.c)", (tree / "extmod" / "extmod.cmake").read_text())
    empty = ("micropython-lib/README.md", *(f"berkeley-db-1.xx/{name}" for name in ("README", *sources)))
    for path in (folder / "lib" / name for name in empty):
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch()
    return folder


def results(output: str) -> dict[str, list[str]]:
    """Variables that a project prints as `RESULT name=value;value`."""
    lines = re.findall(r"^RESULT (\w+)=(.*)$", output, re.MULTILINE)
    return {name: [value for value in values.split(";") if value] for name, values in lines}


def run_cmake(source: Path, build: Path, *options: str, **variables: str) -> str:
    """Configure a project, with these variables in the environment; returns CMake's output."""
    command = ["cmake", "-S", source, "-B", build, "-Wno-dev", *options]
    hidden = ("CAMERA_DIR", "CFLAGS", "IDF_PATH", "IDF_VERSION")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | variables
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def read_commands(build: Path, targets: dict[str, str]) -> dict[str, dict[Path, Command]]:
    """The commands of targets, given as name -> CMake's folder of its objects, by name and source."""
    commands = {name: {} for name in targets}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        end = words.index("-o")
        for name, place in targets.items():
            if f"/{place}/" in words[end + 1]:
                assert words[end + 2 :] == ["-c", entry["file"]]
                source = Path(os.path.normpath(entry["file"]))
                assert source not in commands[name], f"{source} is compiled twice for {name}"
                commands[name][source] = Command(tuple(words[1:end]))
    return commands


def configure(
    folder: Path,
    *options: str,
    board: Path = BOARD,
    tree: Path | None = None,
    kconfig: tuple[str, ...] = (),
    **variables: str,
) -> Configured:
    """Configure the port of a MicroPython tree (host_sim.setup.micropython's) for a board, under `folder`.

    options: CMake's; kconfig: lines of an sdkconfig that count after the board's; variables: the environment's.
    """
    tree = tree or unix.source()
    # Since 1.29 CMake runs the manifest, which takes packages of that submodule.
    if (tree / "py" / "manifest.cmake").exists() and not (tree / "lib" / "micropython-lib" / "micropython").exists():
        pytest.skip(f"{tree} lacks its submodule lib/micropython-lib")
    build = folder / "build"
    options += (f"-DMICROPY_BOARD={board.name}", f"-DMICROPY_BOARD_DIR={board}", f"-DUSER_C_MODULES={MODULES}")
    options += (f"-DMICROPY_DIR={complete(tree, folder / 'micropython')}", f"-DSTAND_IN_KCONFIG={';'.join(kconfig)}")
    variables = {"IDF_PATH": str(IDF), "IDF_VERSION": versions()["idf"]} | variables
    output = run_cmake(tree / "ports" / "esp32", build, *options, **variables)
    return Configured(build, read_commands(build, COPIES), results(output))


def linked_options() -> Callable[[Path], tuple[str, ...]]:
    """How the firmware compiles a source that it links, as far as clang takes it; the unix port's build must be there,
    which has the names of strings."""
    folder = BUILD / "esp32-port"
    with lock("esp32-port"):
        shutil.rmtree(folder, ignore_errors=True)
        port = configure(folder)
        (port.folder / "genhdr").symlink_to(unix.OUTPUT / "genhdr")

    def of(source: Path) -> tuple[str, ...]:
        return tuple(word for word in port.commands["linked"][source].arguments if not re.match(NOT_FOR_CLANG, word))

    return of
