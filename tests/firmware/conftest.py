# SPDX-License-Identifier: MIT
"""Fixtures for the package `ftervit`: the shipped model, and small ones with odd sizes, stems and colours."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.tiny import COLOUR, ODD, SCALED, STEM, Blueprint, calibrated
from trainer.modelfile.export import export

SHIPPED = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The model file that the repository ships."""
    return SHIPPED


def exported(blueprint: Blueprint, tmp_path_factory) -> Path:
    """The model file of an untrained student."""
    path = tmp_path_factory.mktemp("models") / f"{blueprint.name}.safetensors"
    export(calibrated(blueprint), path)
    return path


@pytest.fixture(scope="session")
def odd_model(tmp_path_factory) -> Path:
    """A model file with odd sizes."""
    return exported(ODD, tmp_path_factory)


@pytest.fixture(scope="session")
def stem_model(tmp_path_factory) -> Path:
    """A model file for colours, with a stem of three convolutions and an overlapping, padded patch embedding."""
    return exported(STEM, tmp_path_factory)


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory) -> Path:
    """A model file for colours, without a stem."""
    return exported(COLOUR, tmp_path_factory)


@pytest.fixture(scope="session")
def scaled_model(tmp_path_factory) -> Path:
    """A model file of a student with LayerScale of both signs, whose class token has no position."""
    return exported(SCALED, tmp_path_factory)
