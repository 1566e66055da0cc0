# SPDX-License-Identifier: MIT
"""C is layered: no file's calls, variables or includes lead back to it."""

import re
import subprocess
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import pytest

from host_sim import build
from host_sim.lx7.library import core


def symbols(path):
    """Names that an object defines for others, and names that it leaves to others."""
    lines = subprocess.run(["nm", "-P", "-g", path], capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = [line.split()[:2] for line in lines]
    return {name for name, kind in kinds if kind != "U"}, {name for name, kind in kinds if kind == "U"}


def compiled(sources, flags, folder):
    """`symbols` of each source: name -> (defined, left to others)."""
    found = {}
    for source in sources:
        target = folder / f"{source.stem}.o"
        subprocess.run([build.compiler(), "-c", *flags, f"-I{folder}", source, "-o", target], check=True)
        found[source.name] = symbols(target)
    return found


def uses(sources, headers, flags, folder):
    """The files that each file includes, calls or takes variables from: name -> names."""
    graph, defined, wanted = defaultdict(set), {}, {}
    for path in (*sources, *headers):
        graph[path.name] |= set(re.findall(r'^#include "([^"]+)"', path.read_text(), flags=re.MULTILINE))
    for name, (names, wanted[name]) in compiled(sources, flags, folder).items():
        defined |= dict.fromkeys(names, name)
    for source, names in wanted.items():
        graph[source] |= {defined[name] for name in names if name in defined}
    return graph


@pytest.mark.parametrize("describe", [build.kernels, core])
def test_no_circle(describe, tmp_path):
    made = describe()
    if made.generate:
        made.generate(tmp_path)
    flags = [flag for flag in (*build.FLAGS, *made.flags) if flag != "-shared"]
    graph = uses(made.sources, (*made.headers, *tmp_path.glob("*.h")), flags, tmp_path)
    assert len(graph) >= len(made.sources) + len(made.headers)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_a_circle_is_found(tmp_path):
    """Two files that call each other, though neither includes the other."""
    sources = [tmp_path / "ping.c", tmp_path / "pong.c"]
    for source, other in zip(sources, reversed(sources), strict=True):
        source.write_text(f"void {other.stem}(void);\nvoid {source.stem}(void) {{\n    {other.stem}();\n}}\n")
    with pytest.raises(CycleError):
        TopologicalSorter(uses(sources, [], ["-O0"], tmp_path)).prepare()


def test_settings_are_read_once_for_a_call(tmp_path):
    """ternary_call reads them; whatever it calls has them as an argument."""
    made = build.kernels()
    flags = [flag for flag in (*build.FLAGS, *made.flags) if flag != "-shared"]
    readers = {"ternary_cores", "ternary_backend_in_use"}
    found = {name for name, (_, wanted) in compiled(made.sources, flags, tmp_path).items() if readers & wanted}
    assert found == {"operations.c"}


def test_only_workers_and_settings_change(tmp_path):
    """Variables of the kernels: the settings, each in its owner's file, and the worker's."""
    made = build.kernels()
    # In code that depends on its place, constants with pointers are no variables.
    flags = [flag for flag in (*build.FLAGS, *made.flags, "-fno-pie") if flag not in ("-shared", "-fPIC")]
    compiled(made.sources, flags, tmp_path)
    holders = {}
    for path in tmp_path.glob("*.o"):
        lines = subprocess.run(["nm", "-P", path], capture_output=True, text=True, check=True).stdout.splitlines()
        if names := {line.split()[0] for line in lines if line.split()[1] in "bBdDC"}:
            holders[path.stem] = names
    worker = holders.pop("parallel_pthread")
    assert "turn" in worker
    assert holders == {"backends": {"in_use"}, "parallel": {"cores"}}
