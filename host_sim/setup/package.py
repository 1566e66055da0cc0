# SPDX-License-Identifier: MIT
"""The MicroPython package `ftervit` under CPython, over host_sim/ternary.py."""

import importlib
import sys
from types import ModuleType

from host_sim.setup.shell import ROOT


def use_firmware() -> None:
    """Make `import ftervit`, `import ternary` and the scripts of firmware/ work under CPython."""
    for folder in ("firmware", "host_sim"):
        if str(ROOT / folder) not in sys.path:
            sys.path.insert(0, str(ROOT / folder))


def import_ftervit(module: str = "") -> ModuleType:
    """The package that ships in firmware/, or a module of it."""
    use_firmware()
    import ftervit

    return importlib.import_module(f"ftervit.{module}") if module else ftervit
