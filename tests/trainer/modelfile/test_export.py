# SPDX-License-Identifier: MIT
"""The student in torch, the exported file on the kernels, and the oracle: one set of logits."""

import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from host_sim.setup.package import import_ftervit
from tests import oracle
from tests.tiny import BLUEPRINTS, COLOUR, LEARNED, ODD, SCALED, STEM, calibrated, images_for, untrained
from trainer.data import MemoryPictures
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate
from trainer.integer.linear import fold_linear
from trainer.integer.numbers import MAX_ACCUMULATOR
from trainer.model.layers import TernaryBitConv2d, TernaryBitLinear, TernarySettings, ternary_modules
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import ModelSettings
from trainer.modelfile.evaluate import evaluate, exported_logits, open_model
from trainer.modelfile.export import Int8Head, export, padded
from trainer.training.checkpoint import save_weights
from trainer.training.restore import load_student, load_teacher


def integers(student, images):
    """int32 logits of a calibrated student, [count, classes]."""
    with torch.no_grad():
        logits = student(images) * 2.0 ** student.fracs["head"]
    assert torch.equal(logits, logits.round())
    return logits.numpy().astype(np.int64)


def pictures_of(student, images):
    """The same images as a data set."""
    return MemoryPictures(images, torch.zeros(len(images), dtype=torch.int64), student.blueprint.labels)


@pytest.fixture(scope="module", params=BLUEPRINTS, ids=lambda blueprint: blueprint.name)
def student(request):
    return calibrated(request.param)


@pytest.fixture(scope="module")
def model_file(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    size = export(student, path)
    assert size == path.stat().st_size
    return path


def test_student_file_and_oracle_give_the_same_logits(student, model_file):
    images = images_for(student.blueprint, 20, seed=5)
    expected = integers(student, images)
    exported = exported_logits(open_model(model_file), pictures_of(student, images), label="")
    assert np.array_equal(expected, exported)
    assert len(np.unique(exported, axis=0)) > 15, "the pictures must matter"
    tensors, metadata = oracle.load(model_file)
    for image, logits in zip(images.numpy()[:4], exported, strict=False):
        assert np.array_equal(oracle.forward(tensors, metadata, image), logits)


def test_training_forward_has_the_values_of_evaluation(student):
    images = images_for(student.blueprint, 8, seed=6)
    with torch.no_grad():
        expected = student(images)
    logits = student.train()(images)
    assert torch.equal(logits.detach(), expected)
    logits.square().sum().backward()
    gradients = {name: p.grad for name, p in student.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values()), gradients.keys()
    assert sum(g.abs().sum() > 0 for g in gradients.values()) > 0.8 * len(gradients)
    student.zero_grad()
    student.eval()


def test_statistics_of_a_stem_stay_under_integers(student):
    """Recovery trains on with the statistics that were folded."""
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    student.train()(images_for(student.blueprint, 3))
    student.eval()
    assert all(torch.equal(buffer, before[name]) for name, buffer in student.named_buffers())


def test_file_is_plain_safetensors(student, model_file):
    with safe_open(model_file, "np") as file:
        metadata = file.metadata()
        assert metadata["format"] == "ftervit"
        assert metadata["version"] == "2"
        shapes = json.loads(metadata["shapes"])
        assert set(shapes) == set(file.keys())
        assert json.loads(metadata["labels"]) == list(student.blueprint.labels)
    tokens = (student.vit.pos_embed.shape[1]) - (0 if student.vit.no_embed_class else 1)
    assert shapes["pos_embed"] == [tokens, student.architecture.embed_dim]


def test_a_class_tokens_position_is_part_of_it(student, model_file):
    tensors, metadata = oracle.load(model_file)
    width, frac = student.architecture.embed_dim, json.loads(metadata["scales"])["cls_token"]["frac"]
    exact = student.vit.cls_token[0, 0].detach()
    if not student.vit.no_embed_class:
        exact = exact + student.vit.pos_embed[0, 0].detach()
    assert np.array_equal(tensors["cls_token"][:width], (exact * 2.0**frac).round().clamp(-128, 127).numpy())


def test_accumulators_stay_within_bounds(student):
    network = student.arithmetic
    for name, layer in ternary_modules(student.vit).items():
        if isinstance(layer, TernaryBitLinear | TernaryBitConv2d) and name != "head":
            folded = fold_linear(network.effective(name), network.place(name))
            bias = folded.bias * torch.exp2((folded.channel_shift() - 6).clamp(min=0))
            assert bias.abs().max() + 128 * folded.trits.shape[1] <= MAX_ACCUMULATOR
            assert folded.multiplier.max() <= 127


def test_q_multipliers_keep_the_promise_of_spec_7_7(student, model_file):
    width = student.architecture.embed_dim
    with safe_open(model_file, "np") as file:
        for index in range(student.architecture.depth):
            multiplier = file.get_tensor(f"blocks.{index}.attn.qkv.multiplier")[:width].astype(int)
            assert 128 * (width // student.architecture.num_heads) * multiplier.max() <= MAX_ACCUMULATOR


def test_negative_layer_scales_turn_trits_around(tmp_path):
    """The same network with gammas and layers of the other sign is the same file."""
    student = calibrated(SCALED)
    export(student, tmp_path / "one.safetensors")
    with torch.no_grad():
        for block in student.vit.blocks:
            for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
                for parameter in (layer.weight, layer.bias, scale.gamma):
                    parameter.neg_()
    export(student, tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_dropout_and_stochastic_depth_are_gone_in_the_file(tmp_path):
    rates = {
        "drop_rate": 0.3,
        "proj_drop_rate": 0.3,
        "attn_drop_rate": 0.3,
        "drop_path_rate": 0.3,
        "pos_drop_rate": 0.3,
    }
    model = replace(ODD.model, options={**ODD.model.options, **rates})
    export(calibrated(ODD), tmp_path / "one.safetensors")
    export(calibrated(replace(ODD, model=model)), tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_export_needs_calibration(tmp_path):
    with pytest.raises(TrainerError, match="calibrate"):
        export(untrained(ODD), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["layernorm", "patch_embed", "head"])
def test_parts_in_full_precision_cannot_be_calibrated(part):
    student = untrained(replace(ODD, ternary=TernarySettings(**{part: False})))
    names = {"layernorm": "norm1", "patch_embed": "patch_embed.proj", "head": "head"}
    with pytest.raises(TrainerError, match=rf"{names[part]} is \w+: SPEC computes ternary layers only"):
        calibrate(student, images_for(ODD, 4))
    assert student.fracs == {}


def test_a_file_that_the_reader_refuses_is_not_written(tmp_path):
    student = calibrated(ODD)
    path = tmp_path / "x.safetensors"
    export(student, path)
    before = path.read_bytes()
    student.blueprint = replace(student.blueprint, labels=student.blueprint.labels[1:])
    with pytest.raises(TrainerError, match=r"x\.safetensors is not written, the reader refuses it: .*num_classes"):
        export(student, path)
    assert path.read_bytes() == before


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(TrainerError, match="do not fit int8"):
        padded(torch.tensor([1.0, 128.0]), "int8")


@pytest.mark.parametrize("blueprint", [ODD, SCALED, LEARNED], ids=lambda blueprint: blueprint.name)
def test_fp16_checkpoint_round_trip(blueprint, tmp_path):
    student = calibrated(blueprint)
    path = tmp_path / "student.safetensors"
    save_weights(student, path, student.description())
    loaded = load_student(path)
    assert loaded.fracs == student.fracs
    assert loaded.blueprint == student.blueprint
    assert loaded.architecture == student.architecture
    # Halved once, a weight stays what it is: the model file made from the checkpoint can be made again.
    again = tmp_path / "again.safetensors"
    save_weights(loaded, again, loaded.description())
    for name, tensor in load_student(again).state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    export(loaded, tmp_path / "one.safetensors")
    export(load_student(again), tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_restored_models_need_no_weights_from_elsewhere(tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(untrained(ODD).vit.state_dict(), weights)
    model = replace(ODD.model, checkpoint=str(weights))
    student = untrained(replace(ODD, model=model))
    save_weights(student, tmp_path / "student.safetensors", student.description())
    net = ModelSettings("vit_tiny_patch16_224", {**ODD.model.options}, checkpoint=str(weights))
    teacher = Teacher(TeacherBlueprint(net, 7, ODD.pixels, 28))
    save_weights(teacher, tmp_path / "teacher.safetensors", teacher.description())
    weights.unlink()
    assert load_student(tmp_path / "student.safetensors").fracs == {}
    assert load_teacher(tmp_path / "teacher.safetensors").blueprint.img_size == 28


def test_odd_checkpoints_are_named(tmp_path):
    path = tmp_path / "x.safetensors"
    save_weights(nn.Linear(2, 2), path, untrained(ODD).description())
    with pytest.raises(TrainerError, match=r"x\.safetensors: tensors do not fit the model: "):
        load_student(path)
    save_weights(nn.Linear(2, 2), path, {"blueprint": '{"name": 3}', "fracs": "{}"})
    with pytest.raises(TrainerError, match=r"x\.safetensors: "):
        load_student(path)
    save_weights(nn.Linear(2, 2), path, {})
    with pytest.raises(TrainerError, match=r"x\.safetensors: not a checkpoint of this trainer"):
        load_student(path)


def test_evaluation_counts_what_agrees(tmp_path):
    student = calibrated(ODD)
    export(student, tmp_path / "x.safetensors")
    images = images_for(ODD, 12)
    targets = torch.arange(12) % 7
    pictures = MemoryPictures(images, targets, ODD.labels)
    result = evaluate(pictures, tmp_path / "x.safetensors", student)
    expected = integers(student, images).argmax(1)
    assert result.images == result.equal_logits == 12
    assert result.agreement == 100
    assert result.largest_logit_difference == 0
    assert result.exported_top1 == result.student_top1 == round(100 * (expected == targets.numpy()).mean(), 2)
    assert np.trace(result.confusion) == (expected == targets.numpy()).sum()
    alone = evaluate(pictures, student=untrained(ODD))
    assert alone.agreement is None and alone.exported_top1 is None
    assert "student in torch" in alone.table() and "exported" not in alone.table()
    with pytest.raises(TrainerError, match=r"x\.safetensors: is for 7 classes .* 28 x 28 x 1, the data has 6 classes"):
        evaluate(MemoryPictures(images, targets % 6, ODD.labels[:6]), tmp_path / "x.safetensors")


def test_pictures_shared_between_processes_give_the_same_logits_in_order(student, model_file):
    model, pictures = open_model(model_file), pictures_of(student, images_for(student.blueprint, 70, seed=6))
    alone = exported_logits(model, pictures, label="", processes=1)
    assert len(alone) == 70 and len(np.unique(alone, axis=0)) > 50
    assert np.array_equal(exported_logits(model, pictures, label="", processes=3), alone)


HEADLESS = (ODD, COLOUR, STEM)  # a plain patch embedding, colour, a stem


def int8_head(student, pooling, classes=5, threshold=None):
    """A head of SPEC 4.8 with weights, multipliers and biases up to their ends."""
    rng = np.random.default_rng(classes)
    count = student.architecture.embed_dim * (2 if pooling == "token+mean" else 1)
    weight = rng.integers(-128, 128, (classes, count)).astype(np.int8)
    multiplier = rng.integers(0, 2**21, classes).astype(np.int32)
    bias = rng.integers(-(2**24), 2**24, classes).astype(np.int32)
    multiplier[0], bias[0], multiplier[-1] = 2**31 - 1, 2**31 - 1, 0
    labels = tuple(f"own {index}" for index in range(classes))
    return Int8Head(labels, weight, multiplier, bias, 16, pooling, threshold)


@pytest.mark.parametrize("pooling", ["token", "mean", "token+mean"])
@pytest.mark.parametrize("blueprint", HEADLESS, ids=lambda blueprint: blueprint.name)
def test_a_file_with_an_int8_head_computes_spec_4_8(blueprint, pooling, tmp_path):
    """Trainer, kernels and the oracle: one set of logits."""
    student, path = calibrated(blueprint), tmp_path / "own.safetensors"
    head = int8_head(student, pooling)
    export(student, path, head)
    images = images_for(blueprint, 6, seed=4)
    with torch.no_grad():
        expected = head(student.arithmetic.features(images, pooling).numpy())
    model = open_model(path)
    assert (tuple(model.labels), model.pooling, model.threshold) == (head.labels, pooling, None)
    found = exported_logits(model, MemoryPictures(images, torch.zeros(6, dtype=torch.int64), head.labels), label="")
    assert np.array_equal(found, expected)
    tensors, metadata = oracle.load(path)
    assert metadata["version"] == "3"
    for picture, logits in zip(images.numpy(), expected, strict=True):
        assert np.array_equal(oracle.forward(tensors, metadata, picture), logits)
    assert len(set(map(tuple, expected))) > 1


def test_pictures_below_the_threshold_are_unknown(tmp_path):
    student, path = calibrated(ODD), tmp_path / "own.safetensors"
    head = int8_head(student, "token")
    head = replace(head, multiplier=head.multiplier.clip(0, 2**16), bias=np.zeros(5, np.int32))
    images = images_for(ODD, 8, seed=4)
    ftervit = import_ftervit()
    pictures = [ftervit.Image(image.numpy().tobytes(), 28, 28, 1) for image in images]
    export(student, path, head)
    model = open_model(path)
    best = sorted(int(max(model(model.preprocess(picture)))) for picture in pictures)
    threshold = best[3]
    export(student, path, replace(head, threshold=threshold))
    plain, model = model, open_model(path)
    assert model.threshold == threshold
    said = [model.predict(picture)[0][0] for picture in pictures]
    assert said.count("unknown") == sum(value < threshold for value in best)
    for picture, label in zip(pictures, said, strict=True):
        ranked = plain.predict(picture)
        assert label in ("unknown", ranked[0][0])
        if label == "unknown":
            (_, chance), *others = model.predict(picture)
            assert 0.5 <= chance <= 1
            assert [name for name, _ in others] == [name for name, _ in ranked[:2]]
    model.threshold = None
    assert [model.predict(picture) for picture in pictures] == [plain.predict(picture) for picture in pictures]


def test_what_version_2_has_a_form_for_is_written_as_version_2(tmp_path):
    export(calibrated(ODD), tmp_path / "plain.safetensors")
    metadata = oracle.load(tmp_path / "plain.safetensors")[1]
    assert metadata["version"] == "2"
    assert "head" not in json.loads(metadata["architecture"])
    assert "threshold" not in metadata


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"threshold":"77"', '"threshold":"7."', "threshold: 7. is not a whole number"),
        ('"threshold":"77"', '"threshold":"{}"', "threshold: .* is not a whole number"),
        ('\\"head\\":\\"int8\\"', '\\"head\\":\\"int9\\"', "architecture head: int9, must be one of ternary, int8"),
        ('\\"pool\\":\\"mean\\"', '\\"pool\\":\\"most\\"', "architecture pool: most, must be one of token, mean"),
        ('"version":"3"', '"version":"2"', "threshold: unknown or repeated metadata"),
        ('"dtype":"I8","shape":[96]', '"dtype":"U8","shape":[96]', "tensor 'head.weight': dtype U8, must be I8"),
    ],
)
def test_breaches_of_version_3_are_refused(old, new, words, tmp_path):
    path = tmp_path / "own.safetensors"
    student = calibrated(COLOUR)
    export(student, path, int8_head(student, "mean", 4, 77))
    content = path.read_bytes()
    assert old.encode() in content
    start = content.index(b'"head.weight"') if "dtype" in old else 0
    content = content[:start] + content[start:].replace(old.encode(), new.encode(), 1)
    crc = re.search(rb'"crc32":"([0-9a-f]{8})"', content)[1]
    content = content.replace(crc, b"00000000", 1)
    content = content.replace(b'"00000000"', b'"%08x"' % zlib.crc32(content), 1)
    path.write_bytes(content)
    with pytest.raises(TrainerError, match=words):
        open_model(path)


def test_a_negative_multiplier_is_refused(tmp_path):
    student, head = calibrated(COLOUR), int8_head(calibrated(COLOUR), "mean")
    head.multiplier[1] = -1
    with pytest.raises(TrainerError, match="layer 'head': ridge_scores: multiplier holds -1"):
        export(student, tmp_path / "own.safetensors", head)
    assert not (tmp_path / "own.safetensors").exists()
