# SPDX-License-Identifier: MIT
"""The MicroPython package `ftervit` under CPython, over host_sim/ternary.py."""

import sys
from types import ModuleType

from trainer.paths import ROOT


def import_ftervit() -> ModuleType:
    """The package that ships in firmware/."""
    for folder in ("firmware", "host_sim"):
        if str(ROOT / folder) not in sys.path:
            sys.path.insert(0, str(ROOT / folder))
    import ftervit

    return ftervit
