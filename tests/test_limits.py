# SPDX-License-Identifier: MIT
"""Limits that Python repeats are those of mpy_module/ternary.h."""

import ast

import pytest
import ternary
from ftervit import architecture

from host_sim.setup.shell import ROOT

# Names that differ from the header's.
ALIASES = {"LARGEST_SIDE": "MAX_PICTURE"}
REPEATED = {
    "MAX_PICTURE",
    "MAX_PICTURES",
    "MAX_CLASSES",
    "MAX_IN_FEATURES",
    "MAX_TOKENS",
    "MAX_HEAD_WIDTH",
    "MAX_PREFETCH",
    "MAX_ACCUMULATOR",
}
# Only the kernels check these.
KERNELS_ONLY = {
    "MAX_" + name
    for name in (
        "CORES",
        "WIDTH",
        "HEADS",
        "WEIGHT_SUM",
        "MULTIPLIER",
        "SHIFT",
        "LOGIT_MULTIPLIER",
        "FEATURES",
        "RIDGE",
        "DEVIATION",
    )
}
SCALES = [key for key in architecture.SCALES if key != "frac"]  # which no kernel reads
PIXELS = ["multiplier", "offset"]


def limit(name):
    """A limit of the header, or None."""
    return getattr(ternary.library, f"TERNARY_{name}", None)


def constants():
    """(path, name, value) of each constant of a module whose name is one of the header's."""
    for path in (path for folder in ("firmware", "trainer") for path in sorted((ROOT / folder).rglob("*.py"))):
        for statement in ast.parse(path.read_text()).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                continue
            name = statement.targets[0].id
            name = ALIASES.get(name, name)
            if name.startswith(("MAX_", "MIN_")) and limit(name) is not None:
                yield path.relative_to(ROOT), name, ast.literal_eval(statement.value)


def test_constants_of_firmware_and_trainer():
    found = list(constants())
    assert {name for _, name, _ in found} >= REPEATED
    for path, name, value in found:
        assert value == limit(name), f"{path}: {name}"


def range_of(name):
    """Smallest and largest value by the header."""
    return limit(f"MIN_{name}") or 0, limit(f"MAX_{name}")


@pytest.mark.parametrize("key", SCALES)
def test_integers_of_layers(key):
    assert architecture.SCALES[key] == range_of(key.upper())


@pytest.mark.parametrize("key", PIXELS)
def test_integers_of_preprocessing(key):
    assert architecture.PREPROCESSING[key] == range_of(f"PIXEL_{key.upper()}")


def test_no_limit_is_left_out():
    names = {name.removeprefix("TERNARY_") for name in dir(ternary.library) if name[8:12] in ("MAX_", "MIN_")}
    keys = {key.upper() for key in SCALES} | {f"PIXEL_{key.upper()}" for key in PIXELS}
    compared = REPEATED | {f"{end}_{key}" for end in ("MIN", "MAX") for key in keys}
    assert names - compared == KERNELS_ONLY
