# SPDX-License-Identifier: MIT
"""Settings as frozen dataclasses, built from plain values (TOML, JSON) with errors that name section and key."""

import dataclasses
import math
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from trainer.errors import TrainerError, require

WANTED = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a section"}


LARGEST_WHOLE = (1 << 63) - 1  # what torch and TOML hold


def wanted(kind: Any) -> str:
    """Words for a type in an error message."""
    if get_origin(kind) in (list, tuple):
        inner = get_args(kind)[0]
        return "a list of lists" if get_origin(inner) else f"a list of {WANTED[inner].split(' ', 1)[1]}s"
    return WANTED[get_origin(kind) or kind]


def check_plain(value: Any, name: str) -> None:
    """Raise TrainerError unless `value` is made of finite numbers, texts, truth values, lists and tables alone."""
    if type(value) is float and not math.isfinite(value):
        raise TrainerError(f"{name} is {value!r}, must be a finite number")
    if type(value) is int and not -LARGEST_WHOLE <= value <= LARGEST_WHOLE:
        raise TrainerError(f"{name} is a whole number of {value.bit_length()} bits, must fit 64")
    if type(value) in (list, tuple):
        for entry in value:
            check_plain(entry, name)
    elif type(value) is dict:
        for key, entry in value.items():
            check_plain(entry, f"{name}.{key}")
    elif not isinstance(value, int | float | str | None):
        raise TrainerError(f"{name} is {value}, must be a number, a text, true or false, a list or a section")


def checked(value: Any, kind: Any, name: str) -> Any:
    """`value` if it has the type `kind`; a whole number is a float too, and a list may stand for a tuple.

    Numbers must be finite and fit 64 bits, wherever they stand.
    """
    check_plain(value, name)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else checked(value, get_args(kind)[0], name)
    if kind is float and type(value) is int:
        return float(value)
    if origin in (list, tuple):
        if type(value) in (list, tuple):
            return origin(checked(entry, get_args(kind)[0], name) for entry in value)
    elif type(value) is (origin or kind):
        return value
    raise TrainerError(f"{name} is {value!r}, must be {wanted(kind)}")


def nested_settings(hint: Any) -> type | None:
    """The settings class that a field holds (or may hold), if it is one."""
    kinds = (kind for kind in (hint, *get_args(hint)) if isinstance(kind, type))
    return next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)


def build(kind: type, values: Any, name: str = "") -> Any:
    """An object of the settings class `kind` from a table; errors name the section `name` and the key.

    Nested settings classes are sections of their own; keys with defaults may be left out.
    """
    require(isinstance(values, dict), f"[{name}] must be a section")
    where = f"[{name}] " if name else ""
    hints = {key: hint for key, hint in get_type_hints(kind).items() if hint is not Path}
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in sorted(values.keys() - hints.keys()):
        raise TrainerError(f"{where}{key} is no setting; there are {', '.join(hints)}")
    arguments = {}
    for key, hint in hints.items():
        if key in values:
            section = f"{name}.{key}" if name else key
            nested = nested_settings(hint)
            if nested and values[key] is not None:
                arguments[key] = build(nested, values[key], section)
            else:
                arguments[key] = checked(values[key], hint, where + key)
        elif fields[key].default is dataclasses.MISSING and fields[key].default_factory is dataclasses.MISSING:
            raise TrainerError(f"{where}{key} is missing")
    try:
        return kind(**arguments)
    except TrainerError as error:
        raise TrainerError(f"{where}{error}") from None
