# SPDX-License-Identifier: MIT
"""Writes firmware/stubs/ternary.pyi, the type stub of the C module, from mpy_module/operations.h.

python -m host_sim.stubs
"""

import subprocess
import sys
from typing import Any

from host_sim.setup.shell import ROOT, Failure, one_line_errors
from host_sim.ternary import OPERATIONS, ffi, library

STUB = ROOT / "firmware" / "stubs" / "ternary.pyi"

HEAD = '''\
# SPDX-License-Identifier: MIT
# Written by `python -m host_sim.stubs` from mpy_module/operations.h.
"""The C module `ternary`: integer kernels of fully ternary vision transformers, SPEC.md is the home of every rule.

Arguments go by position. Buffers hold elements of the type that their names here say, bytes of "b" or "B" are always
taken; what an operation writes must overlap no other argument. Everything is checked before anything is written:
TypeError for a wrong type or number of arguments, ValueError for a wrong size, place or content, both naming operation
and argument.
"""

from array import array
from typing import Literal, TypeAlias

_Readable: TypeAlias = bytes | bytearray | memoryview | array[int]
_Writable: TypeAlias = bytearray | memoryview | array[int]
'''

# Those that are no operations; a test compares their parameters with the module's.
TAIL = '''
def arena(bytes: int, typecode: Literal["b", "B", "h", "i"] = "b", /) -> memoryview:
    """Zeroed memory on a multiple of 16, as a memoryview of typecode b, B, h or i (default b).

    MemoryError names the bytes that there is no room for.
    """

def cores(count: int = ..., /) -> int:
    """Cores that operations share their work between; with a count, sets it first, to the nearest number that there is.

    Results do not depend on it. A call that has begun keeps the cores that it began with. TypeError if count is no int,
    ValueError if it does not fit 32 bits.
    """

def use(name: str, /) -> None:
    """Compute with a backend from now on: "reference", and "pie" on an ESP32-S3; both give the same bits.

    A call that has begun keeps its backend. TypeError if name is no str; ValueError lists the backends of this build.
    """
'''

ELEMENTS = {"I8": "Int8", "U8": "Uint8", "I16": "Int16", "I32": "Int32"}
USES = {"IN": "read", "OUT": "written", "IN_PLACE": "written", "INOUT": "changed", "SCRATCH": "working memory"}


def of_enum(names: dict | tuple, number: int) -> str:
    """The name whose value in ternary.h is `number`."""
    return next(name for name in names if getattr(library, f"TERNARY_{name}") == number)


def aliases() -> str:
    """The types of buffers."""
    lines = []
    for name in ELEMENTS.values():
        lines += [f"_{name}: TypeAlias = _Readable", f"_{name}Out: TypeAlias = _Writable"]
    return "\n".join(lines) + "\n"


def function(name: str, operation: Any) -> str:
    """The stub of one operation."""
    signature, lines = [], []
    for parameter in operation.parameters[0 : operation.parameter_count]:
        argument = ffi.string(parameter.name).decode()
        kind = of_enum(("INT", *ELEMENTS), parameter.type)
        use = of_enum(USES, parameter.use)
        if kind == "INT":
            signature.append(f"{argument}: int")
            continue
        signature.append(f"{argument}: _{ELEMENTS[kind]}{'' if use == 'IN' else 'Out'}")
        in_place = ", may be the first argument" if use == "IN_PLACE" else ""
        lines.append(f"    {argument}: {ELEMENTS[kind].lower()}, {USES[use]}{in_place}")
    doc = ffi.string(operation.doc).decode()
    body = f'    """{doc}\n\n' + "\n".join(lines) + '\n    """' if lines else f'    """{doc}"""'
    result = "int" if operation.has_result else "None"
    return f"\ndef {name}({', '.join(signature)}, /) -> {result}:\n{body}\n"


def stub() -> str:
    """The text of firmware/stubs/ternary.pyi."""
    functions = "".join(function(name, operation) for name, operation in OPERATIONS.items())
    text = "\n".join((HEAD + aliases(), functions.strip("\n"), TAIL.strip("\n"))) + "\n"
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        raise Failure(f"ruff cannot format {STUB.relative_to(ROOT)}: {result.stderr.strip().splitlines()[-1]}")
    return result.stdout


@one_line_errors
def main() -> None:
    """Command line."""
    STUB.parent.mkdir(parents=True, exist_ok=True)
    STUB.write_text(stub())


if __name__ == "__main__":
    sys.exit(main())
