# SPDX-License-Identifier: MIT
"""The files in a board's flash: the package as bytecode, and the models and pictures of firmware/."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from host_sim.setup import mpy
from host_sim.setup.micropython import source
from host_sim.setup.shell import BUILD, ROOT

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
    (BUILD / "board").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD / "board", ignore_cleanup_errors=True) as directory:
        fill_flash(Path(directory))
        yield Path(directory)
