# SPDX-License-Identifier: MIT
"""trainer.config: the shipped configuration loads, mistakes are named."""

import re

import pytest

from tests.conftest import ROOT
from trainer.config import load_config
from trainer.errors import TrainerError
from trainer.train import keep_settings

SHIPPED = ROOT / "trainer" / "configs" / "fashion_mnist.toml"


def edited(tmp_path, old, new):
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "edited.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_shipped_configuration_loads():
    config = load_config(SHIPPED)
    assert config.architecture.embed_dim == 96
    assert config.student.epochs > config.student.full_precision_epochs
    assert "source" not in config.settings()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 1", "", "seed is missing"),
        ("seed = 1", 'seed = "one"', "seed is 'one', must be a whole number"),
        ("seed = 1", "seed = 1\nsed = 2", "sed is no setting; there are seed"),
        ("seed = 1", "seed = ", "line"),
        ("[student]", "[pupil]", "pupil is no setting"),
        ("[data]\nvalidation = 5000", "data = 5000", "[data] must be a section"),
        (
            "full_precision_epochs = 6",
            "full_precision_epochs = 40",
            "[student] full_precision_epochs must be from 0 to 39",
        ),
        ("warmup = 0.3", "warmup = 1.5", "[teacher] warmup must be between 0 and 1"),
        ("channels = [32, ", "channels = [32.5, ", "[teacher] channels is 32.5, must be a whole number"),
        ("channels = [32, ", "channels = [32, 32, ", "[teacher] channels must be four numbers from 1"),
        ("mlp_hidden = 384", "mlp_hidden = 5000", "[architecture] architecture mlp_hidden: 5000, at most 4032"),
        ("depth = 6", "depth = 0", "[architecture] architecture depth: 0 is not a whole number from 1"),
        ("temperature = 2.0", "temperature = 0", "[distillation] temperature must be above 0"),
        ("calibration = 1024", "calibration = 0", "[recovery] calibration must be at least 1"),
        ("num_heads = 3", "num_heads = 5", "[architecture] architecture num_heads: embed_dim must be a multiple of it"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, words):
    path = edited(tmp_path, old, new)
    with pytest.raises(TrainerError, match=re.escape(f"{path}: ") + ".*" + re.escape(words)):
        load_config(path)


def test_checkpoints_are_not_resumed_with_other_settings(tmp_path):
    settings = tmp_path / "settings.json"
    keep_settings(load_config(SHIPPED), settings)
    keep_settings(load_config(SHIPPED), settings)
    with pytest.raises(TrainerError, match=r"made with other settings than .*edited\.toml's"):
        keep_settings(load_config(edited(tmp_path, "seed = 1", "seed = 2")), settings)
