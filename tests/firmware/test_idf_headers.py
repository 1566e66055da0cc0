# SPDX-License-Identifier: MIT
"""Declarations of the stand-in headers compared with those of the ESP-IDF in IDF_PATH (skipped without one)."""

import os
import re
from pathlib import Path

import pytest

from tests.firmware.esp32_port import IDF
from tests.firmware.test_arena import FREERTOS

# ESP-IDF's components that declare what the module uses.
COMPONENTS = ("esp_hw_support", "esp_rom/esp32s3", "esp_system", "freertos", "heap", "soc/esp32s3")
HEADERS = sorted((*IDF.rglob("*.h"), *FREERTOS.rglob("*.h")))
DECLARATION = r"^(\w[\w ]*[ *])(\w+)\(([^()]*)\);"
TYPE = r"^typedef (?:struct \w* *\{[^{}]*\} *(\w+)|\w[\w ]*[ *]\( *\* *(\w+) *\) *\([^()]*\)) *;"
CONSTANT = r"^#define (MALLOC_CAP_\w+|pd\w+|port\w+|ESP_\w+|SOC_\w+) +(.+)$"


def plain(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def type_of(parameter: str) -> str:
    """A parameter's type, or that of a result: no name, no const of its own, no attributes."""
    words = re.findall(r"\w+|\*", parameter)
    words = [word for word in words if not re.fullmatch(r"const|extern|static|inline|[A-Z_]+_(ATTR|FUNCTION)", word)]
    if len(words) > 1 and re.fullmatch(r"\w+", words[-1]):
        words.pop()
    return " ".join(words)


def signature(result: str, parameters: str) -> tuple[str, ...]:
    """Types of the result and of the parameters."""
    return type_of(f"{result} name"), *(type_of(parameter) for parameter in parameters.split(",") if parameter.strip())


def value(text: str) -> int | str:
    """A constant, as a number if it is one."""
    text = re.sub(r"\(\s*\w+_t\s*\)", "", text)
    numbers = re.fullmatch(r"[\s()]*(\w+)(?:\s*<<\s*(\w+))?[\s()]*", text)
    if not numbers or not numbers[1][0].isdigit():
        return " ".join(text.split())
    first, shift = (int(re.sub("[uUlL]+$", "", number), 0) for number in (numbers[1], numbers[2] or "0"))
    return first << shift


@pytest.fixture(scope="module")
def real() -> str:
    """The headers of the ESP-IDF."""
    components = Path(os.environ.get("IDF_PATH") or "/nowhere") / "components"
    if not (components / "heap" / "include" / "esp_heap_caps.h").is_file():
        pytest.skip("no ESP-IDF: IDF_PATH names none")
    paths = sorted(path for name in COMPONENTS for path in (components / name).rglob("*.h") if "test" not in str(path))
    return plain("\n".join(path.read_text(errors="replace") for path in paths))


def declarations():
    """(header, result, name, parameters) of the functions of the stand-ins."""
    for header in HEADERS:
        for result, name, parameters in re.findall(DECLARATION, plain(header.read_text()), re.MULTILINE):
            yield pytest.param(result, name, parameters, id=f"{header.name}:{name}")


@pytest.mark.parametrize(("result", "name", "parameters"), tuple(declarations()))
def test_a_function_is_declared_so(real, result, name, parameters):
    ours = signature(result, parameters)
    found = [(match[1], match[2]) for match in re.finditer(rf"^([\w *]*[ *]){name}\s*\(([^()]*)\)", real, re.MULTILINE)]
    macros = re.findall(rf"^\s*#\s*define\s+{name}\s*\(([^()]*)\)", real, re.MULTILINE)
    assert found or macros, f"ESP-IDF has no {name}"
    if macros and not any(signature(*each) == ours for each in found):
        assert any(len(macro.split(",")) == len(ours) - 1 for macro in macros), (ours, macros)
    else:
        assert ours in [signature(*each) for each in found]


def parts(text: str) -> list[str]:
    """Members of a struct, or types of the result and the parameters of a function type."""
    body = re.search(r"\{([^{}]*)\}", text)
    if body:
        return [" ".join(re.findall(r"\w+|\*", member)) for member in body[1].split(";") if member.strip()]
    function = re.fullmatch(r"typedef ([\w *]+)\( *\* *\w+ *\) *\(([^()]*)\) *;", " ".join(text.split()))
    return list(signature(function[1], function[2]))


def types(text: str) -> list[tuple[str, str]]:
    """(name, text) of struct and function types that are defined."""
    return [(match[1] or match[2], match[0]) for match in re.finditer(TYPE, text, re.MULTILINE)]


def stand_in_types():
    """(name, text) of those of idf/; FreeRTOS's are opaque."""
    for header in sorted(IDF.rglob("*.h")):
        for name, text in types(plain(header.read_text())):
            yield pytest.param(name, text, id=f"{header.name}:{name}")


@pytest.mark.parametrize(("name", "text"), tuple(stand_in_types()))
def test_a_type_is_defined_so(real, name, text):
    assert parts(text) in [parts(other) for found, other in types(real) if found == name]


def constants():
    """(header, name, value) of the constants of the stand-ins."""
    for header in HEADERS:
        for name, text in re.findall(CONSTANT, header.read_text(), re.MULTILINE):
            yield pytest.param(name, text, id=f"{header.name}:{name}")


@pytest.mark.parametrize(("name", "text"), tuple(constants()))
def test_a_constant_has_that_value(real, name, text):
    found = {value(each) for each in re.findall(rf"^\s*#\s*define\s+{name}\s+(.+)$", real, re.MULTILINE)}
    assert value(text) in found, found
