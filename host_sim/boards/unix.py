# SPDX-License-Identifier: MIT
"""The virtual board of kind "unix": MicroPython's unix port with our C modules, built under build/unix.

Its flash is a directory, which MicroPython mounts at /. A soft reset ends the interpreter; the server starts the next
one.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from host_sim.boards.interpreter import Interpreter, open_raw_terminal
from host_sim.setup.artefact import filled
from host_sim.setup.micropython import source, tree_version
from host_sim.setup.shell import BUILD, ROOT, check_path, lock, processors, run, step

MODULES = {"raw_repl": ROOT / "host_sim" / "boards" / "raw_repl", "ternary": ROOT / "mpy_module"}
# The virtual board does not need these features, and Debian's source package lacks their libraries.
MAKE_OPTIONS = (
    "VARIANT=standard",
    "FROZEN_MANIFEST=",
    "MICROPY_PY_BTREE=0",
    "MICROPY_PY_FFI=0",
    "MICROPY_PY_SSL=0",
    "MICROPY_SSL_AXTLS=0",
    "MICROPY_SSL_MBEDTLS=0",
    # The source is pinned, compilers are not: a new compiler's warning must not stop the build.
    "CFLAGS_EXTRA=-Wno-error",
)

START = """\
import os, vfs
vfs.umount("/")
vfs.mount(vfs.VfsPosix({flash!r}), "/")
os.chdir("/")
del os, vfs
__import__("raw_repl").run({raw})
"""


def output(port: str) -> Path:
    """Build folder of a port, one for each tree that MPY_DIR names, because boards of other trees may be running."""
    tree = os.environ.get("MPY_DIR")
    return BUILD / (f"{port}-{hashlib.sha256(os.path.realpath(tree).encode()).hexdigest()[:8]}" if tree else port)


OUTPUT = output("unix")


def link_modules(folder: Path, modules: dict[str, Path]) -> None:
    """Make the directory of module directories that MicroPython's USER_C_MODULES expects."""
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if modules.get(link.name) != link.readlink():
            link.unlink()
    for name, path in modules.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(path)


def build(
    port: str,
    output: Path,
    modules: dict[str, Path],
    options: Sequence[str],
    settings: Sequence[Path] = (),
    tree: Path | None = None,
) -> None:
    """Fetch MicroPython's source if needed and build one of its ports into `output` unless it is up to date.

    modules: name -> directory of a C module, skipped if it has no micropython.mk; options: variables of make; settings:
    files that the port's makefile includes; tree: the source to build (default: `source()`).
    """
    with lock("micropython"):
        tree = tree or source()
        check_path(tree, "MicroPython's source")
        check_path(output, "the folder to build in")
        modules = {name: path for name, path in modules.items() if (path / "micropython.mk").exists()}
        folder = output.with_name(f"usermods-{output.name}")
        link_modules(folder, modules)
        includes = [file for path in modules.values() for file in sorted(path.glob("micropython.*"))]
        jobs = processors()
        command: list[str | Path] = ["make", f"-j{jobs}", "-C", tree / "ports" / port, *options]
        paths = [f"USER_C_MODULES={folder}", f"BUILD={output}", f"PYTHON={sys.executable}"]
        label = f"building MicroPython {tree_version(tree)} ({port}) with the ternary module"
        with step(label, output), filled(output, [str(tree), tree_version(tree), *options], [*includes, *settings]):
            run([*command, *paths], "building MicroPython", f"micropython-make-{output.name}.log")


def firmware() -> Path:
    """Fetch and build the unix port unless it is up to date; returns the executable."""
    build("unix", OUTPUT, MODULES, MAKE_OPTIONS)
    return OUTPUT / "micropython"


# MicroPython scans the real stack for pointers, and calls memcpy with a null pointer and size 0.
SANITIZE = (
    "-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize=nonnull-attribute "
    "--param asan-use-after-return=0"
)


def sanitized() -> Path:
    """The same under AddressSanitizer and UBSan; returns the executable."""
    folder = output("unix-sanitized")
    build("unix", folder, MODULES, [*MAKE_OPTIONS[:-1], f"{MAKE_OPTIONS[-1]} {SANITIZE}", f"LDFLAGS_EXTRA={SANITIZE}"])
    return folder / "micropython"


class UnixInterpreter(Interpreter):
    """A running unix port with a directory mounted at /."""

    def __init__(self, program: Path, flash: Path, heap: str, raw: bool):
        self.master, slave = open_raw_terminal()
        start = START.format(flash=str(flash), raw=raw)
        environment = os.environ | {"MICROPYPATH": "/lib"}
        self.process = subprocess.Popen(
            [program, "-X", f"heapsize={heap}", "-c", start],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=flash,
            env=environment,
            preexec_fn=lambda: os.login_tty(os.dup(slave)),
        )
        os.close(slave)
