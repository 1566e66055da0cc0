# SPDX-License-Identifier: MIT
"""MicroPython's module `ternary` for CPython, built from the same C files.

With host_sim/ on sys.path, `import ternary` works as on a board: the same functions, checks, exceptions and
messages. TERNARY_LIBRARY names another build of the library (tests/sanitize.py uses one with sanitizers).
"""

import functools
import inspect
import operator
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cffi

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from host_sim import build  # noqa: E402

ffi = cffi.FFI()
ffi.cdef(re.sub(r"^#.*$", "", (build.SOURCE / "ternary.h").read_text(), flags=re.MULTILINE))
ffi.cdef(re.sub(r"^#.*$", "", (build.SOURCE / "parallel.h").read_text(), flags=re.MULTILINE))
library = ffi.dlopen(os.environ.get("TERNARY_LIBRARY") or str(build.library()))

NATIVE = "@=" + ("<" if sys.byteorder == "little" else ">")
# What a call makes; parsing their names again takes longer than many an operation.
ARGUMENTS, ERROR = ffi.typeof("ternary_arg[]"), ffi.typeof("ternary_error *")


def text_of(write: Callable[..., Any], *arguments: Any) -> str:
    """The text that a C function with parameters (..., text, size) writes."""
    buffer = ffi.new("char[]", library.TERNARY_MESSAGE_SIZE)
    return ffi.string(write(*arguments, buffer, len(buffer))).decode()


def exception(operation: Any, arguments: Any, error: Any) -> Exception:
    """The exception that MicroPython's binding raises for a C error."""
    message = text_of(library.ternary_error_message, operation, arguments, error)
    if error.code == library.TERNARY_ERR_MEMORY:
        return MemoryError(message)
    return (TypeError if error.code <= library.TERNARY_ERR_COUNT else ValueError)(message)


def failure(operation: Any, arguments: Any, index: int, code: int, value: int = 0) -> Exception:
    """The exception for an error that the binding itself detects."""
    error = ffi.new("ternary_error *", {"code": code, "argument": arguments + index, "value": value})
    return exception(operation, arguments, error)


def fill_number(operation: Any, arguments: Any, index: int, value: Any) -> None:
    """Set an argument to an int."""
    try:
        number = operator.index(value)
    except TypeError:
        raise failure(operation, arguments, index, library.TERNARY_ERR_TYPE) from None
    if not -(2**31) <= number < 2**31:
        raise failure(operation, arguments, index, library.TERNARY_ERR_RANGE)
    arguments[index].value = number


@functools.cache
def accepts(kind: int, typecode: str, item_size: int) -> bool:
    """Whether a buffer of this format serves for a parameter of this type."""
    typecode = typecode.lstrip(NATIVE)
    return len(typecode) == 1 and bool(library.ternary_accepts(kind, ord(typecode), item_size))


def fill_buffer(operation: Any, arguments: Any, index: int, kind: int, written: bool, value: Any) -> memoryview | None:
    """Set an argument to a buffer; returns a view that keeps it alive, or None for an empty one."""
    try:
        view = memoryview(value)
    except TypeError:
        raise failure(operation, arguments, index, library.TERNARY_ERR_TYPE) from None
    if not (accepts(kind, view.format, view.itemsize) and view.c_contiguous):
        raise failure(operation, arguments, index, library.TERNARY_ERR_TYPE)
    if written and view.readonly:
        raise failure(operation, arguments, index, library.TERNARY_ERR_READONLY)
    size = view.nbytes
    if not size:
        return None
    argument = arguments[index]
    argument.data = ffi.from_buffer(view)
    argument.size = size
    return view


class HostRunner:
    """Runs operations on this machine."""

    def cores(self, count: int | None = None) -> int:
        """Cores that operations use; with a count, sets it first."""
        return library.ternary_cores() if count is None else library.ternary_use_cores(count)

    def backends(self) -> list[str]:
        """Names of the backends, the default first."""
        names: list[str] = []
        while (name := library.ternary_backend_name(len(names))) != ffi.NULL:
            names.append(ffi.string(name).decode())
        return names

    def use_backend(self, number: int) -> None:
        """Select a backend by its number."""
        library.ternary_use_backend(number)

    def call(self, index: int, operation: Any, arguments: Any, views: Sequence[memoryview | None], error: Any) -> int:
        """Run an operation (entry `index` of the table); returns its result, or fills `error`."""
        return library.ternary_call(operation, arguments, error)

    def heap(self, size: int) -> memoryview | None:
        """Zeroed bytes, aligned to 16, as a memoryview; None without memory."""
        try:
            memory = ffi.new("char[]", size + 15)
        except MemoryError:
            return None
        start = -int(ffi.cast("uintptr_t", memory)) % 16
        return memoryview(ffi.buffer(memory))[start : start + size]

    def memory(self, size: int, leave: int) -> memoryview | None:
        """The same for `arena`, which has no limit here."""
        return self.heap(size)

    def internal(self) -> list[int] | None:
        """None: there is no internal memory."""
        return None


runner: Any = HostRunner()


def use(*values: Any, **options: Any) -> Any:
    """use(name, **options): select a backend as on a board ("reference", or "pie" on an ESP32-S3), or where operations
    run: "host", or "lx7", a simulated ESP32-S3 that counts cycles (options: those of Lx7Runner).

    Returns the runner; Lx7Runner has report(). Memory from `arena` is valid only for the runner that allocated it.
    TypeError if name is no str, ValueError if it is none of these.
    """
    global runner
    function = library.ternary_use_function + 0
    arguments = ffi.new("ternary_arg[1]")
    if len(values) != 1:
        raise failure(function, arguments, 0, library.TERNARY_ERR_COUNT, len(values))
    name = values[0]
    if not isinstance(name, str):
        raise failure(function, arguments, 0, library.TERNARY_ERR_TYPE)
    if name == "lx7":
        from host_sim.lx7_runner import Lx7Runner

        runner = Lx7Runner(tuple(OPERATIONS), **options)
    elif name == "host":
        runner = HostRunner()
    elif name in (backends := runner.backends()):
        runner.use_backend(backends.index(name))
    else:
        raise ValueError(f"use: name is not one of {', '.join([*backends, 'host', 'lx7'])}")
    return runner


# Of a parameter: whether it is an int, its type, whether it is written.
Kind = tuple[bool, int, bool]


def kinds(operation: Any) -> tuple[Kind, ...]:
    """Of each parameter of an operation."""
    parameters = [operation.parameters[i] for i in range(operation.parameter_count)]
    number, read = library.TERNARY_INT, library.TERNARY_IN
    return tuple((each.type == number, each.type, each.use != read) for each in parameters)


def call(index: int, operation: Any, parameters: tuple[Kind, ...], values: Sequence[Any]) -> int:
    """Run an operation on Python arguments; returns its result."""
    arguments = ffi.new(ARGUMENTS, len(parameters))
    if len(values) != len(parameters):
        raise failure(operation, arguments, 0, library.TERNARY_ERR_COUNT, len(values))
    views: list[memoryview | None] = [None] * len(values)
    for position, (is_number, kind, written) in enumerate(parameters):
        if is_number:
            fill_number(operation, arguments, position, values[position])
        else:
            views[position] = fill_buffer(operation, arguments, position, kind, written, values[position])
    error = ffi.new(ERROR)
    result = runner.call(index, operation, arguments, views, error)
    if result < 0:
        raise exception(operation, arguments, error)
    return result


def function(index: int, operation: Any) -> Callable[..., int | None]:
    """The Python function of an operation (entry `index` of the table)."""
    has_result, parameter_kinds = operation.has_result, kinds(operation)

    numbers_only = all(is_number for is_number, _, _ in parameter_kinds)
    known: dict[Any, int] = {}  # of numbers only, the result depends on them and the cores
    # Without a result and a buffer to write, it is a hint about its only buffer, to the chip's cache.
    hint = not has_result and [(is_number, written) for is_number, _, written in parameter_kinds] == [(False, False)]
    read = parameter_kinds[0][1]

    def wrapper(*values: Any) -> int | None:
        if hint and type(runner) is HostRunner and len(values) == 1 and type(values[0]) is memoryview:
            view = values[0]
            if view.nbytes and accepts(read, view.format, view.itemsize) and view.c_contiguous:
                return None
        if numbers_only and type(runner) is HostRunner and all(type(value) is int for value in values):
            key = (*values, library.ternary_cores())
            if key not in known:
                known[key] = call(index, operation, parameter_kinds, values)
            return known[key]
        result = call(index, operation, parameter_kinds, values)
        return result if has_result else None

    names = [ffi.string(operation.parameters[i].name).decode() for i in range(operation.parameter_count)]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    wrapper.__name__ = wrapper.__qualname__ = ffi.string(operation.name).decode()
    wrapper.__doc__ = ffi.string(operation.doc).decode()
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return wrapper


OPERATIONS: dict[str, Any] = {}
while (operation := library.ternary_operations + len(OPERATIONS)).name:
    OPERATIONS[ffi.string(operation.name).decode()] = operation
globals().update({name: function(i, operation) for i, (name, operation) in enumerate(OPERATIONS.items())})


def new_memory(operation: Any, values: tuple[Any, ...]) -> memoryview:
    """Memory for `arena` (bytes, typecode, leave) or `heap` (bytes, typecode), checked by C."""
    arguments = ffi.new("ternary_arg[3]")
    if not 1 <= len(values) <= operation.parameter_count:
        raise failure(operation, arguments, 0, library.TERNARY_ERR_COUNT, len(values))
    size, typecode, leave = (*values, *("b", 0)[len(values) - 1 :])[:3]
    fill_number(operation, arguments, 0, size)
    arguments[1].value = ord(typecode) if isinstance(typecode, str) and len(typecode) == 1 else 0
    fill_number(operation, arguments, 2, leave)
    error = ffi.new("ternary_error *")
    if library.ternary_call(operation, arguments, error) < 0:
        raise exception(operation, arguments, error)
    size, leave = arguments[0].value, arguments[2].value
    view = runner.memory(size, leave) if operation.parameter_count == 3 else runner.heap(size)
    if view is None:
        raise failure(operation, arguments, 0, library.TERNARY_ERR_MEMORY, leave)
    return view.cast("B").cast(typecode)


def arena(*values: Any) -> memoryview:
    """Zeroed memory (bytes, typecode "b", leave=0) aligned to 16 bytes, as a memoryview of typecode b, B, h or i.

    On a simulated chip it is internal memory, of which a block of `leave` bytes stays free.
    """
    return new_memory(library.ternary_arena + 0, values)


def heap(*values: Any) -> memoryview:
    """The same (bytes, typecode "b"), from MicroPython's heap, which on the chip is PSRAM."""
    return new_memory(library.ternary_heap + 0, values)


def internal() -> list[int] | None:
    """Largest free block of each region of internal memory, in bytes; None where `arena` allocates from the heap."""
    return runner.internal()


def cores(*values: Any) -> int:
    """cores(count): number of cores that operations use; with a count, an int of 32 bits, sets it first, to the nearest
    possible number. TypeError or ValueError for another count."""
    function = library.ternary_cores_function + 0
    arguments = ffi.new("ternary_arg[1]")
    if len(values) > 1:
        raise failure(function, arguments, 0, library.TERNARY_ERR_COUNT, len(values))
    if not values:
        return runner.cores()
    fill_number(function, arguments, 0, values[0])
    return runner.cores(arguments[0].value)


__all__ = ["arena", "cores", "heap", "internal", "use", *OPERATIONS]
