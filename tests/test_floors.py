# SPDX-License-Identifier: MIT
"""Who may import whom: every folder has floors, imports go down, and none of them closes a circle.

Imports inside functions and for type checkers count as all others.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the lowest floor up: a name may import those of floors below it, and itself. Names are modules or packages, which
# stand on one floor with all that they hold.
TREE = (("firmware",), ("host_sim",), ("trainer",), ("tests",))
FLOORS = {
    "firmware": (
        ("ftervit",),
        ("bench", "boards", "classify", "classify_camera", "collect", "selfcheck", "teach", "tinker"),
    ),
    "host_sim": (
        ("setup",),
        ("build", "random_models", "tables"),
        ("lx7",),
        # What reads and runs machine code of the module.
        ("esp32", "lx7_runner"),
        ("ternary",),
        ("boards", "stubs"),
        ("chip", "fuzz", "web"),
    ),
    "trainer": (
        ("errors", "paths"),
        ("files", "settings"),
        ("data",),
        ("model",),
        ("integer",),
        ("config", "modelfile"),
        ("training",),
        ("experiments",),
        ("report",),
        ("cli",),
        ("__main__",),
    ),
}
# Circles that stand: each a set of modules. None may be added.
KNOWN_CIRCLES: tuple[set[str], ...] = ()

Imports = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """All modules of the tree by the name they are imported by; firmware's stand on the board's path."""
    found = {}
    for path in sorted(path for folder in TREE for path in root.joinpath(*folder).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def named(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that an import statement may mean, the most precise name first."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        base = ".".join([*parents[: len(parents) + 1 - node.level], node.module or ""]) if node.level else node.module
        yield from (f"{base.strip('.')}.{alias.name}" for alias in node.names)


def imports(root: Path) -> Imports:
    """By module of the tree: the modules of the tree that it imports."""
    known = modules(root)
    graph: Imports = {}
    for module, path in known.items():
        # firmware/ and host_sim/ may be on the path; on a board `import ternary` is the C module.
        folders = ("", "firmware.") if module.startswith("firmware.") else ("", "firmware.", "host_sim.")
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            for name in named(node, package):
                # "a.b.c" may be a name in a.b.
                candidates = (name, name.rpartition(".")[0])
                target = next((f + c for c in candidates for f in folders if f + c in known), None)
                if target and target != module:
                    graph[module].add(target)
    return graph


def circles(graph: Imports) -> list[set[str]]:
    """Modules that reach each other (strongly connected components of more than one)."""

    def reached(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            for target in graph[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    reach = {module: reached(module) for module in graph}
    groups = ({other for other in reach[module] if module in reach[other]} for module in graph)
    return [set(group) for group in {frozenset(group) for group in groups if len(group) > 1}]


def breaches(graph: Imports, floors: tuple[tuple[str, ...], ...], folder: str = "") -> list[str]:
    """Imports within `folder` that do not go down, and names that stand on no floor."""
    height = {name: floor for floor, names in enumerate(floors) for name in names}
    once = len(height) == sum(map(len, floors))
    assert once and all("." not in name for name in height), "a name stands on one floor"
    depth = 1 if folder else 0

    def room(module: str) -> str | None:
        parts = module.split(".")
        return None if len(parts) <= depth or (folder and parts[0] != folder) else parts[depth]

    found = []
    for module, targets in graph.items():
        if (here := room(module)) is None:
            continue
        if here not in height:
            found.append(f"{module} is on no floor")
        for target in targets:
            there = room(target)
            if there is not None and here != there and height.get(there, 99) >= height.get(here, 99):
                found.append(f"{module} imports {target}")
    return sorted(found)


@pytest.fixture(scope="module")
def graph():
    return imports(ROOT)


def test_no_import_closes_a_circle(graph):
    assert all(any(circle <= known for known in KNOWN_CIRCLES) for circle in circles(graph)), circles(graph)


def test_folders_import_down(graph):
    assert breaches(graph, TREE) == []


@pytest.mark.parametrize("folder", FLOORS)
def test_rooms_import_down(graph, folder):
    assert breaches(graph, FLOORS[folder], folder) == []


def test_the_graph_is_that_of_the_files(graph):
    """Modules, names in modules, packages, firmware's own path and imports inside functions are seen."""
    assert {"trainer.integer.attention", "trainer.model.student"} <= graph["trainer.integer.network"]
    assert "trainer.data" in graph["trainer.training.phases"]
    assert "trainer.training.pipeline" in graph["trainer.cli"]
    assert "firmware.ftervit" in graph["host_sim.setup.package"]
    assert "host_sim.tables" in graph["trainer.report.tables"]


def test_circles_and_imports_upwards_are_found(tmp_path):
    contents = {
        "host_sim/low.py": "def late():\n    from trainer.high import x\n",
        "trainer/__init__.py": "",
        "trainer/high.py": "from trainer import middle\nx = 1\n",
        "trainer/middle.py": "import trainer.odd\n",
        "trainer/odd/__init__.py": "from .deep import y\n",
        "trainer/odd/deep.py": "from ..high import x\ny = 1\n",
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = imports(tmp_path)
    assert circles(graph) == [{"trainer.high", "trainer.middle", "trainer.odd", "trainer.odd.deep"}]
    assert breaches(graph, TREE) == ["host_sim.low imports trainer.high"]
    found = breaches(graph, (("middle",), ("high",)), "trainer")
    assert found == [
        "trainer.middle imports trainer.odd",
        "trainer.odd is on no floor",
        "trainer.odd.deep is on no floor",
    ]
    two_floors = (("odd",), ("middle",), ("high",), ("odd.deep",)), (("odd",), ("middle", "high"), ("odd",))
    for floors in two_floors:
        with pytest.raises(AssertionError, match="a name stands on one floor"):
            breaches(graph, floors, "trainer")


@pytest.mark.parametrize("folder", FLOORS)
def test_every_name_on_a_floor_exists(folder):
    """A moved package leaves no name behind."""
    there = {path.stem for path in (ROOT / folder).iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert {name for names in FLOORS[folder] for name in names} == there - {"__init__"}
