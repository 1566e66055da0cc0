# SPDX-License-Identifier: MIT
"""The shipped model, and a small one with odd sizes, for the package `ftervit`."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tiny import ODD, calibrated
from trainer.export import export

SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The model file that the repository ships."""
    return SHIPPED


@pytest.fixture(scope="session")
def odd_model(tmp_path_factory) -> Path:
    """A model file whose sizes are multiples of nothing."""
    path = tmp_path_factory.mktemp("models") / "odd.safetensors"
    export(calibrated(ODD), [f"class {i}" for i in range(ODD.num_classes)], path)
    return path
