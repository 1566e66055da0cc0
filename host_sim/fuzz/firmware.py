# SPDX-License-Identifier: MIT
"""The package `ftervit` under CPython, over host_sim/ternary.py."""

import importlib
import sys
from types import ModuleType

from host_sim.setup.shell import ROOT


def import_ftervit(module: str = "") -> ModuleType:
    """The package that ships in firmware/, or a module of it."""
    for folder in ("firmware", "host_sim"):
        if str(ROOT / folder) not in sys.path:
            sys.path.insert(0, str(ROOT / folder))
    return importlib.import_module(f"ftervit.{module}" if module else "ftervit")
