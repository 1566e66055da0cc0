# SPDX-License-Identifier: MIT
"""Builds MicroPython's WebAssembly port with the ternary module, under build/web-board."""

import re
import shutil
from pathlib import Path

from host_sim.boards.unix import build, output
from host_sim.setup.artefact import write_whole
from host_sim.setup.micropython import source
from host_sim.setup.shell import BUILD, ROOT, Failure, check_path, lock

PORT = ROOT / "host_sim" / "web" / "port"
MODULES = {"page_hooks": PORT / "hooks", "ternary": ROOT / "mpy_module"}
COMPILER = "emcc"
# Where Debian has Emscripten's own modules of node: a node that is not Debian's does not look there.
NODE_MODULES = "/usr/share/nodejs"


def with_functions(library: str) -> str:
    """A JavaScript library of Emscripten with `function` for arrow functions, which its version 3.1.6 does not take."""
    library = re.sub(r"^( +\w+: )\(\) => \{$", r"\1function () {", library, flags=re.MULTILINE)
    return re.sub(
        r"^( +\w+: )\(\) =>\s+([^{\s].*?),$", r"\1function () { return \2; },", library, flags=re.MULTILINE | re.DOTALL
    )


def port_tree(tree: Path, place: Path) -> Path:
    """MicroPython's tree as the build wants it, at `place`: links, and a copy of the port with library.js rewritten."""
    port = tree / "ports" / "webassembly"
    if not (port / "library.js").is_file():
        raise Failure(f"{tree} has no ports/webassembly/library.js: set MPY_DIR to a MicroPython of 1.25 or newer")
    (place / "ports").mkdir(parents=True, exist_ok=True)
    for path in tree.iterdir():
        link = place / path.name
        if path.name not in ("ports", ".git") and not (link.is_symlink() and link.readlink() == path):
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    copy = place / "ports" / "webassembly"
    # make compares times, so they are copied, too; what is there and newer was rewritten below.
    shutil.copytree(port, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("library.js", "build-*"))
    library = with_functions((port / "library.js").read_text())
    if not (copy / "library.js").is_file() or (copy / "library.js").read_text() != library:
        write_whole(copy / "library.js", library)
    return place


def firmware() -> Path:
    """Build micropython.mjs and micropython.wasm unless they are up to date; returns their folder."""
    if not shutil.which(COMPILER):
        raise Failure(f"{COMPILER} is missing: install Emscripten (Debian: apt-get install emscripten)")
    tree = source()
    check_path(tree, "MicroPython's source")
    folder = output("web-board")
    with lock("web-board"):
        place = port_tree(tree, BUILD / f"{folder.name}-tree")
        options = (f"VARIANT_DIR={PORT}", f"NODE_PATH={NODE_MODULES}")
        build("webassembly", folder, MODULES, options, sorted(PORT.glob("mpconfigvariant.*")), place)
    return folder
