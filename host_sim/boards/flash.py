# SPDX-License-Identifier: MIT
"""The files in a board's flash: the package as bytecode, and the models and pictures of firmware/."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from host_sim.boards.copies import copies
from host_sim.setup import mpy
from host_sim.setup.micropython import source
from host_sim.setup.shell import ROOT

FOLDERS = ("models", "images")  # of firmware/, besides the package


def fill_flash(flash: Path) -> None:
    """Copy models, pictures and the package (as bytecode) to the board's flash."""
    flash.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        origin = ROOT / "firmware" / name
        if origin.is_dir():
            shutil.copytree(origin, flash / name, dirs_exist_ok=True)
    for name, data in mpy.package(mpy.version_of_source(source())).items():
        path = flash / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".py").unlink(missing_ok=True)  # MicroPython would prefer an old source file


@contextlib.contextmanager
def flash_directory(flash: Path | None) -> Iterator[Path]:
    """The filled flash directory: the given one, or a temporary one."""
    if flash:
        flash = flash.resolve()
        fill_flash(flash)
        yield flash
        return
    with copies("flash-") as directory:
        fill_flash(directory)
        yield directory
