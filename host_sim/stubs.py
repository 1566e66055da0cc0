# SPDX-License-Identifier: MIT
"""Writes firmware/stubs/ternary.pyi, the type stub of the C module, from mpy_module/operations.h.

python -m host_sim.stubs
"""

import subprocess
import sys
from typing import Any

from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import ROOT, Failure, one_line_errors
from host_sim.ternary import OPERATIONS, ffi, library

STUB = ROOT / "firmware" / "stubs" / "ternary.pyi"

HEAD = '''\
# SPDX-License-Identifier: MIT
# Written by `python -m host_sim.stubs` from mpy_module/operations.h.
"""The C module `ternary`: integer kernels of fully ternary vision transformers. SPEC.md defines every operation.

Arguments are positional. Buffers hold elements of the annotated type; typecodes "b" and "B" are always accepted.
A buffer that an operation writes must not overlap another argument. All checks come before the first write:
TypeError for a wrong type or number of arguments, ValueError for a wrong size, address or content; both name operation
and argument.
"""

from array import array
from typing import Literal, TypeAlias

_Readable: TypeAlias = bytes | bytearray | memoryview | array[int]
_Writable: TypeAlias = bytearray | memoryview | array[int]
'''

# Functions that are not in the operation table; a test compares their parameters with the module's.
TAIL = '''
def arena(bytes: int, typecode: Literal["b", "B", "h", "i"] = "b", leave: int = 0, /) -> memoryview:
    """Zeroed memory aligned to 16 bytes, as a memoryview of typecode b, B, h or i (default b).

    On an ESP32-S3 it is internal memory, of which a block of `leave` bytes stays free; elsewhere it is the same as
    `heap`. MemoryError names the bytes that there is no room for, and the largest free block.
    """

def heap(bytes: int, typecode: Literal["b", "B", "h", "i"] = "b", /) -> memoryview:
    """The same, from MicroPython's heap, which on an ESP32-S3 grows into PSRAM."""

def internal() -> list[int] | None:
    """Largest free block of each region of internal memory, in bytes; None where arenas are in MicroPython's heap."""

def cores(count: int = ..., /) -> int:
    """Number of cores that operations use; with a count, sets it first, to the nearest possible number.

    Results do not depend on it. A call that has begun keeps the cores that it began with. TypeError if count is no int,
    ValueError if it does not fit 32 bits.
    """

def use(name: str, /) -> None:
    """Select the backend: "reference", or "pie" on an ESP32-S3; both give the same bits.

    A call that has begun keeps its backend. TypeError if name is no str; ValueError lists the backends of this build.
    """
'''

ELEMENTS = {"I8": "Int8", "U8": "Uint8", "I16": "Int16", "I32": "Int32"}
USES = {"IN": "read", "OUT": "written", "IN_PLACE": "written", "INOUT": "changed", "SCRATCH": "working memory"}


def of_enum(names: dict | tuple, number: int) -> str:
    """The name whose value in ternary.h is `number`."""
    return next(name for name in names if getattr(library, f"TERNARY_{name}") == number)


def aliases() -> str:
    """Type aliases of buffers."""
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
    write_whole(STUB, stub())


if __name__ == "__main__":
    sys.exit(main())
