# SPDX-License-Identifier: MIT
"""trainer.integer.operations: SPEC 9's order, against the file that ships and the package that reads it."""

from collections import Counter

import pytest
from safetensors import safe_open

from host_sim.setup.package import import_ftervit
from tests.conftest import ROOT
from tests.tiny import BLUEPRINTS, calibrated, untrained
from trainer.integer.operations import RESIDUAL, Kind, Walker, operations
from trainer.model.vit import Architecture

SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
# Kinds whose output is not the name of tensors in a file.
WITHOUT_TENSORS = (Kind.INPUT, Kind.RESIDUAL_START, Kind.RESIDUAL_ADD)


@pytest.fixture(params=BLUEPRINTS, ids=lambda blueprint: blueprint.name)
def listed(request):
    return operations(untrained(request.param).architecture)


def test_a_walker_needs_a_method_for_every_kind():
    assert Walker.__abstractmethods__ == set(Kind)

    class Forgetful(Walker):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Forgetful()


def test_every_output_is_used_by_one_operation_behind_it(listed):
    used = Counter(source for operation in listed for source in operation.sources if source != RESIDUAL)
    made = [operation.name for operation in listed if operation.name != RESIDUAL]
    assert used == Counter(made[:-1])
    assert len(set(made)) == len(made)
    known = set()
    for operation in listed:
        assert known.issuperset(operation.sources)
        known.add(operation.name)
    assert operation.kind == Kind.HEAD


def test_order_is_that_of_the_file_that_ships():
    sizes = dict(import_ftervit().modelfile.ModelFile(str(SHIPPED)).architecture)
    with safe_open(SHIPPED, "np") as file:
        tensors = list(file.keys())
        tensors.sort(key=lambda name: file.metadata()["shapes"].index(f'"{name}":'))
    layers = dict.fromkeys(name.removesuffix(".softmax.table") for name in tensors)
    layers = dict.fromkeys(
        name.rpartition(".")[0] if name.endswith(("weight", "bias", "multiplier", "shift", "table")) else name
        for name in layers
    )
    found = [
        op.name
        for op in operations(Architecture(**{key: value for key, value in sizes.items() if key != "head"}))
        if op.kind not in WITHOUT_TENSORS
    ]
    assert found == list(layers)


@pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda blueprint: blueprint.name)
def test_every_activation_of_an_operation_has_a_frac(blueprint):
    fracs = set(calibrated(blueprint).fracs)
    names = {op.name for op in operations(calibrated(blueprint).architecture) if not op.name.endswith(".qkv")}
    parts = {f"{name}.{part}" for name in names if name.endswith(".attn") for part in ("q", "k", "v", "scores")}
    assert fracs == names | parts
