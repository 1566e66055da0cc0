# SPDX-License-Identifier: MIT
"""Type stubs match the modules, and help() works on a board."""

import ast
import inspect

import ftervit
import pytest
import ternary

from host_sim import stubs
from tests.conftest import ROOT

FTERVIT = ROOT / "firmware" / "stubs" / "ftervit" / "__init__.pyi"
NO_DEFAULT = inspect.Parameter.empty


def members(tree) -> dict:
    """Functions, classes and annotated names of a module or class."""
    found = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return found | {node.target.id: node for node in tree.body if isinstance(node, ast.AnnAssign)}


def parameters_of_stub(node: ast.FunctionDef) -> list:
    """(name, default) of each parameter."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    defaults = [ast.literal_eval(default) for default in node.args.defaults]
    return list(zip(names, [NO_DEFAULT] * (len(names) - len(defaults)) + defaults, strict=True))


def parameters_of(function) -> list:
    """(name, default) of each parameter of a function."""
    return [(parameter.name, parameter.default) for parameter in inspect.signature(function).parameters.values()]


def public_methods(cls) -> dict:
    """The methods of a class that users call, without classmethod around them."""
    methods = {name: getattr(value, "__func__", value) for name, value in vars(cls).items()}
    return {
        name: value
        for name, value in methods.items()
        if inspect.isfunction(value) and (not name.startswith("_") or name in ("__init__", "__call__"))
    }


@pytest.fixture(scope="module")
def stub() -> dict:
    """The names in the stub of ftervit."""
    return members(ast.parse(FTERVIT.read_text()))


def test_the_stub_of_ternary_is_up_to_date():
    assert stubs.STUB.read_text() == stubs.stub(), "run: .venv/bin/python -m host_sim.stubs"


def test_the_stub_of_ternary_has_all_functions():
    functions = members(ast.parse(stubs.STUB.read_text()))
    for name in ternary.__all__:
        names = [name for name, _ in parameters_of_stub(functions[name])]
        # The host's use() takes options for the simulated chip; those of a fixed count check it themselves.
        memory = ["bytes", "typecode"]
        expected = {"use": ["name"], "cores": ["count"], "arena": [*memory, "leave"], "heap": memory}.get(name)
        assert names == (expected or [name for name, _ in parameters_of(getattr(ternary, name))]), name
    assert {name for name in functions if not name.startswith("_")} == set(ternary.__all__)


def test_the_stub_of_ftervit_has_the_same_names(stub):
    names = {name for name in stub if not name.startswith("_")}
    assert names == set(ftervit.__all__)


@pytest.mark.parametrize("name", [name for name in ftervit.__all__ if inspect.isclass(getattr(ftervit, name))])
def test_classes_have_the_same_methods(stub, name):
    methods = {key: node for key, node in members(stub[name]).items() if isinstance(node, ast.FunctionDef)}
    real = public_methods(getattr(ftervit, name))
    assert {key: parameters_of_stub(node) for key, node in methods.items()} == {
        key: parameters_of(value) for key, value in real.items()
    }, f"firmware/stubs/ftervit/__init__.pyi: class {name}"


def test_functions_have_the_same_parameters(stub):
    assert parameters_of_stub(stub["read_image"]) == parameters_of(ftervit.read_image)


def test_objects_have_the_attributes(stub, shipped):
    """Every attribute of a stub is one of the object, and every public attribute of an object is in the stub."""
    model = ftervit.VisionTransformer.load(str(shipped))
    block, stem = model.blocks[0], model.patch_embed
    image = ftervit.read_image(str(ROOT / "firmware" / "images" / "7_sneaker.pgm"))
    objects = [model, block, block.attn, block.attn.qkv, block.attn.softmax, block.mlp, block.mlp.act, block.norm1]
    objects += [stem, stem.proj, stem.backbone[0], model.head, image, ftervit.ModelFile(str(shipped))]
    objects += [ftervit.Learner(model, capacity=1), ftervit.Int8Head(b"", b"", b"", 1, 1, 0)]
    seen = set()
    for value in objects:
        name = type(value).__name__
        annotated = {key for key, node in members(stub[name]).items() if isinstance(node, ast.AnnAssign)}
        of_class = {key: member for key, member in vars(type(value)).items() if not key.startswith("_")}
        properties = {key for key, member in of_class.items() if isinstance(member, property | int)}
        assert annotated == properties | {key for key in vars(value) if not key.startswith("_")}, name
        seen.add(name)
    assert seen == {name for name in ftervit.__all__ if inspect.isclass(getattr(ftervit, name))}


def test_help_on_a_board(board):
    lines = board.mpremote("exec", "import ternary; help(ternary)").stdout.splitlines()
    shown = dict(line.strip().split(" -- ", 1) for line in lines if " -- " in line)
    for name, operation in stubs.OPERATIONS.items():
        signature = ", ".join(parameter for parameter, _ in parameters_of(getattr(ternary, name)))
        assert shown[name] == f"{name}({signature}): {getattr(ternary, name).__doc__}"
        assert stubs.ffi.string(operation.doc).decode() in shown[name]
    text = "\n".join(lines)
    assert all(f"    {name}(" in text for name in ("arena", "cores", "use"))


def test_a_function_shown_by_the_prompt(board):
    script = "import ternary; print(repr(ternary.topk)); help(ternary.topk)"
    shown, explained = board.mpremote("exec", script).stdout.splitlines()
    assert shown == "<function ternary.topk(logits, out)>"
    assert "topk(logits, out): Indices of the largest logits" in explained
