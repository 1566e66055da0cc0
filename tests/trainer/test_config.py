# SPDX-License-Identifier: MIT
"""trainer.config: the shipped configuration loads, mistakes are named."""

import dataclasses
import re

import pytest

from tests.conftest import ROOT
from trainer.config import (
    ComputeSettings,
    DistillationSettings,
    Phase,
    RecoveryPhase,
    StudentPhase,
    load_config,
)
from trainer.data import DataSettings
from trainer.errors import TrainerError
from trainer.model.quantize import Rule

CONFIGS = ROOT / "trainer" / "configs"
SHIPPED = CONFIGS / "fashion_mnist.toml"


def edited(tmp_path, old, new):
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "edited.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_loads(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config.student.epochs > config.student.full_precision_epochs
    assert config.ternary.complete
    assert "source" not in config.settings()


def test_changes_of_the_command_line():
    changes = (
        "seed=7",
        "student.epochs=9",
        "student.full_precision_epochs=2",
        "ternary.rule.name=absmean",
        "model.stem=[]",
        "model.patch=[]",
        "model.options={patch_size=7}",
        "data.path=/some where/else",
        "compute.amp=true",
    )
    config = load_config(SHIPPED, changes)
    assert (config.seed, config.student.epochs, config.student.full_precision_epochs) == (7, 9, 2)
    assert config.ternary.rule == Rule("absmean", "channel")
    assert (config.model.stem, config.model.patch, config.model.options) == ([], [], {"patch_size": 7})
    assert config.data.path == "/some where/else"
    assert config.compute.amp is True


def test_outputs_and_speed_do_not_shape_the_weights():
    changes = ("output.model=elsewhere", "compute.threads=1", "compute.checkpoint_minutes=1", "compute.table=false")
    assert load_config(SHIPPED, changes).shaping() == load_config(SHIPPED).shaping()
    assert load_config(SHIPPED, ["compute.amp=true"]).shaping() != load_config(SHIPPED).shaping()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("student.epochs=many", "[student] epochs is 'many', must be a whole number"),
        ("student.epochs=2.5", "[student] epochs is 2.5, must be a whole number"),
        ("student.ema=true", "[student] ema is True, must be a number"),
        ("student.optimizer=adamv", "[student] optimizer is 'adamv', timm has"),
        ("student.start=random", "[student] start is 'random', must be one of weights, output_aware"),
        ("student.ternary_learning_rate=-1e-3", "[student] ternary_learning_rate must not be negative"),
        ("student.full_precision_epochs=0", "[student] ternary_learning_rate needs full_precision_epochs"),
        ("student.dampening=-1", "[student] dampening must not be negative"),
        ("student.clip=0", "[student] clip must be above 0"),
        ("compute.amp=1", "[compute] amp is 1, must be true or false"),
        ("model.stem=[[32, 3, 2]]", "[model] stem needs [channels, kernel, stride, padding] each"),
        ("model.stem=[32, 3, 2, 1]", "[model] stem is 32, must be a list of whole numbers"),
        ("model.patch=[]", "[model] patch needs [kernel, stride, padding] with a stem only"),
        ("ternary.rule.name=binary", "[ternary.rule] rule is 'binary', must be one of absmean, twn"),
        ("ternary.activations=float", "[ternary] activations is 'float', must be one of static, per_token"),
        ("data.source=mnist", "[data] source is 'mnist', must be one of"),
        ("seed=-1", "seed must be from 0 to"),
        ("seed.value=1", "seed.value=1: seed is not a section"),
        ("=1", "'=1' is not of the form section.key=value"),
    ],
)
def test_mistakes_of_the_command_line_are_named(change, words):
    with pytest.raises(TrainerError, match=re.escape(f"{SHIPPED}: ") + ".*" + re.escape(words)):
        load_config(SHIPPED, [change])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9" * 5000, "a number has thousands of digits"),
        ("[" * 5000, "lists or tables are nested too deep"),
        ("1_", "line 1"),
    ],
)
def test_what_the_parser_of_toml_does_not_take_is_named(tmp_path, value, words):
    path = tmp_path / "hostile.toml"
    path.write_text(f"seed = {value}")
    with pytest.raises(TrainerError, match=re.escape(f"{path}: ") + ".*" + re.escape(words)):
        load_config(path)
    if "line" not in words:
        with pytest.raises(TrainerError, match=re.escape(f"{SHIPPED}: ") + ".*" + re.escape(words)):
            load_config(SHIPPED, [f"seed={value}"])


def test_a_teacher_must_come_from_somewhere(tmp_path):
    path = tmp_path / "edited.toml"
    start, end = "[teacher]\ncheckpoint", "[distillation]"
    text = SHIPPED.read_text()
    model = '[teacher.model]\nname = "small_resnet"\n\n'
    path.write_text(text[: text.index(start)] + model + text[text.index(end) :])
    with pytest.raises(
        TrainerError, match=r"\[teacher\] needs a checkpoint, pretrained weights or \[teacher\.training"
    ):
        load_config(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 1", "", "seed is missing"),
        ("seed = 1", 'seed = "one"', "seed is 'one', must be a whole number"),
        ("seed = 1", "seed = 1\nsed = 2", "sed is not a setting; there are seed"),
        ("seed = 1", "seed = ", "line"),
        ("[student]", "[pupil]", "pupil is not a setting"),
        ("size = 28", "size = 32", "[data] Fashion-MNIST needs size 28, channels 1"),
        ('name = "vit_tiny_patch16_224"', "", "[model] name is missing"),
        (
            "full_precision_epochs = 48",
            "full_precision_epochs = 96",
            "[student] full_precision_epochs must be from 0 to 95",
        ),
        ("warmup = 0.3", "warmup = 1.5", "[teacher.training] warmup must be between 0 and 1"),
        ("[teacher]", "[teacher]\nsize = -1", "[teacher] size is -1, must be from 0 to"),
        ("temperature = 2.0", "temperature = 0", "[distillation] temperature must be above 0"),
        ("calibration = 1024", "calibration = 0", "[recovery] calibration must be at least 1"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, words):
    path = edited(tmp_path, old, new)
    with pytest.raises(TrainerError, match=re.escape(f"{path}: ") + ".*" + re.escape(words)):
        load_config(path)


FLOATS = [
    f"{section}.{field.name}"
    for section, kind in (
        ("data", DataSettings),
        ("distillation", DistillationSettings),
        ("teacher.training", Phase),
        ("student", StudentPhase),
        ("recovery", RecoveryPhase),
        ("compute", ComputeSettings),
    )
    for field in dataclasses.fields(kind)
    if field.type in (float, "float")
]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("setting", FLOATS)
def test_numbers_must_be_finite(setting, value):
    section, _, key = setting.rpartition(".")
    words = re.escape(f"{SHIPPED}: [{section}] {key} is ") + "-?(inf|nan), must be a finite number"
    with pytest.raises(TrainerError, match=words):
        load_config(SHIPPED, [f"{setting}={value}"])


def test_all_float_settings_are_tried():
    assert len(FLOATS) == 33
    assert {"student.learning_rate", "compute.checkpoint_minutes", "data.hflip"} <= set(FLOATS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.options={mlp_ratio=inf}", "[model] options.mlp_ratio is inf, must be a finite number"),
        ("model.options={a=[{b=nan}]}", "[model] options.a.b is nan, must be a finite number"),
        ("model.options={a=1979-05-27}", "[model] options.a is 1979-05-27, must be a number, a text"),
        (f"student.epochs=1{'0' * 30}", "[student] epochs is a whole number of 100 bits, must fit 64"),
        (f"student.learning_rate=1{'0' * 400}", "[student] learning_rate is a whole number of 1329 bits"),
        (f"model.options={{a=1{'0' * 30}}}", "[model] options.a is a whole number of 100 bits"),
    ],
)
def test_values_that_no_record_could_hold(change, words):
    with pytest.raises(TrainerError, match=re.escape(words)):
        load_config(SHIPPED, [change])
