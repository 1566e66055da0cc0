# SPDX-License-Identifier: MIT
"""The report's numbers against independent counts, and its page: whole, by itself, or a clear error."""

import base64
import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import write_idx
from trainer.cli import main
from trainer.config import load_config
from trainer.data import MemoryPictures, open_test
from trainer.errors import TrainerError
from trainer.integer.calibrate import calibrate
from trainer.model.layers import ternary_modules
from trainer.model.pixels import Pixels
from trainer.model.student import Blueprint, Student
from trainer.model.teacher import Teacher, TeacherBlueprint
from trainer.model.vit import ModelSettings
from trainer.modelfile.export import export
from trainer.paths import BUILD, CHECKPOINTS
from trainer.report import figures, measure
from trainer.report.page import Section, gallery, png, table
from trainer.report.run import RunFolder
from trainer.report.sections import Report, most_confused, page_path, write_report
from trainer.training.checkpoint import save_weights
from trainer.training.restore import load_student

CONFIG = """
seed = 5
data = { source = "fashion_mnist", path = "DATA", size = 28, channels = 1, validation = 40 }
model = { name = "vit_tiny_patch16_224", options = { patch_size = 14, embed_dim = 20, depth = 1, num_heads = 2 } }
teacher = { model = { name = "small_resnet", options = { channels = [4, 4, 4, 4] } }, checkpoint = "none" }
distillation = { temperature = 2.0 }

[student]
epochs = 3
full_precision_epochs = 1
batch = 32
learning_rate = 1e-3
warmup = 0.4
weight_decay = 0.0

[recovery]
epochs = 1
batch = 32
learning_rate = 1e-4
warmup = 0.4
weight_decay = 0.0
"""
VIT = {"patch_size": 14, "embed_dim": 12, "depth": 2, "num_heads": 3}
PIXELS = Pixels((0.4,), (0.3,))
ANCHORS = ["learning", "trits", "file", "weights", "activations", "confusion", "attention", "examples"]
NOWHERE = "nowhere"


def noise(count, *sizes):
    return torch.randint(0, 256, (count, *sizes), dtype=torch.uint8)


def log(epochs):
    row = {"validation_top1": 50.0, "seconds": 2.0, "learning_rate": 1e-3}
    return "".join(json.dumps({"epoch": n + 1, "loss": 1 / (n + 1), **row}) + "\n" for n in range(epochs))


def teacher_of(kind):
    models = {
        "cnn": ModelSettings("small_resnet", {"channels": [4, 4, 4, 4]}),
        "vit": ModelSettings("vit_tiny_patch16_224", VIT),
        "averaging": ModelSettings("vit_tiny_patch16_224", {**VIT, "class_token": False, "global_pool": "avg"}),
    }
    return Teacher(TeacherBlueprint(models[kind], 10, PIXELS, 0 if kind == "cnn" else 28))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as training leaves it, made without training."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("run")
    data = tmp_path_factory.mktemp("data")
    for split, count in (("train", 100), ("t10k", 60)):
        write_idx(data / f"{split}-images-idx3-ubyte.gz", noise(count, 28, 28))
        write_idx(data / f"{split}-labels-idx1-ubyte.gz", torch.arange(count).remainder(10).byte())
    (data / "small.toml").write_text(CONFIG.replace("DATA", str(data)))
    config = load_config(data / "small.toml")
    (folder / "settings.json").write_text(json.dumps(config.shaping()))
    labels = tuple(f"class <{index}>" for index in range(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.data.fashion_mnist.FASHION_MNIST_LABELS", labels)
        student = Student(Blueprint("small", config.model, 28, labels, PIXELS, config.ternary)).eval()
        with torch.no_grad():
            for module in ternary_modules(student.vit).values():
                module.weight.add_(0.5 * torch.randn_like(module.weight))
                module.bias.add_(0.5 * torch.randn_like(module.bias))
        calibrate(student, noise(16, 28, 28, 1))
        save_weights(student, folder / "student.fp32.safetensors", student.description())
        teacher = teacher_of("cnn")
        save_weights(teacher, folder / "teacher.fp16.safetensors", teacher.description())
        export(load_student(folder / "student.fp32.safetensors"), folder / "small.safetensors")
        for name, epochs in (("teacher", 2), ("student", 3), ("control", 3), ("recovery", 1)):
            (folder / f"{name}.jsonl").write_text(log(epochs))
        yield folder


@pytest.fixture(scope="module")
def student(run):
    return load_student(run / "student.fp32.safetensors")


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, evaluation=run / NOWHERE).read_text()


class Addresses(HTMLParser):
    """All that a page would fetch or go to."""

    def __init__(self):
        super().__init__()
        self.found, self.ids, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("href", "src", "xlink:href", "srcset", "data")]
        self.ids += [value for name, value in attributes if name == "id"]
        assert tag not in ("script", "link", "iframe", "object")


def test_page_needs_nothing_else(page):
    parser = Addresses()
    parser.feed(page)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parser.found)
    assert len(parser.found) > 20
    assert {address[1:] for address in parser.found if address[0] == "#"} <= set(parser.ids)
    assert len(parser.ids) == len(set(parser.ids))
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_page_has_every_section_with_a_picture_or_a_table(page):
    sections = re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL)
    assert [anchor for anchor, _ in sections] == ANCHORS
    for anchor, content in sections:
        assert re.search("<svg|<table|<img", content), anchor
        assert "Left out" not in content
        assert "look for" in content.lower(), anchor


def test_page_has_no_fonts_and_the_text_colour_of_its_theme(page):
    assert "currentColor" in page
    assert figures.INK not in page
    assert "prefers-color-scheme: dark" in page
    assert "<text" not in page


def test_labels_are_escaped(page):
    assert "class &lt;3&gt;" in page
    assert "<3>" not in page


def test_shares_of_trits(student, page):
    layers = {layer.name: layer for layer in measure.layer_trits(student)}
    zeros = total = 0
    for name, module in ternary_modules(student.vit).items():
        weight = module.latent().detach()
        threshold = 0.7 * weight.abs().mean(1, keepdim=True)
        expected = [(weight < -threshold).sum(), (weight.abs() <= threshold).sum(), (weight > threshold).sum()]
        assert layers[name].counts == tuple(map(int, expected))
        assert sum(layers[name].shares) == pytest.approx(1)
        zeros, total = zeros + int(expected[1]), total + weight.numel()
    assert set(layers) == set(ternary_modules(student.vit))
    assert f"100 % of {total:,} matrix and norm weights are ternary and {100 * zeros / total:.1f} %" in page


def test_layers_in_full_precision_count_as_not_ternary():
    torch.manual_seed(0)
    blueprint = Blueprint("small", ModelSettings("vit_tiny_patch16_224", VIT), 28, ("a", "b"), PIXELS)
    settings = dataclasses.replace(blueprint.ternary, layernorm=False)
    layers = measure.layer_trits(Student(dataclasses.replace(blueprint, ternary=settings)))
    assert {layer.name for layer in layers if not any(layer.counts)} == {
        *(f"blocks.{block}.norm{norm}" for block in (0, 1) for norm in (1, 2)),
        "norm",
    }
    assert "<svg" in figures.trit_shares(layers)


def test_thresholds_part_zeros_from_survivors(student):
    for layer in measure.some_latents(student):
        magnitude, zero = np.abs(layer.weights), layer.trits == 0
        assert magnitude[~zero].min() <= layer.thresholds.max()
        assert magnitude[zero].max() >= layer.thresholds.min()
        assert (np.sign(layer.weights) == layer.trits)[~zero].all()
        # TWN: a survivor's mean is the scale, and the threshold 0.7 of the mean lies well below it.
        assert magnitude[~zero].mean() == pytest.approx(1, abs=0.1)
        assert 0.2 < layer.thresholds.mean() < 0.7


def test_ranges_against_the_scales():
    x = torch.tensor([-2.0, -1.0, 0.0, 0.992, 0.997, 1.5])
    found = measure.Range.of("x", x, 7)
    assert (found.low, found.high) == (-2.0, 1.5)
    # 0.992 is 126.98 steps, 0.997 127.6.
    assert found.saturated == pytest.approx(3 / 6)
    assert found.limits == (-1.0, 127 / 128)
    many = measure.Range.of("x", torch.linspace(0, 1, 1001), 0)
    assert (many.quantile_low, many.quantile_high) == pytest.approx((0.001, 0.999))


@pytest.mark.parametrize("stem", [False, True])
def test_every_int8_activation_has_a_range(stem):
    torch.manual_seed(2)
    stages = ([[5, 3, 2, 1], [7, 3, 1, 1]], [3, 2, 1]) if stem else ([], [])
    options = {"embed_dim": 12, "depth": 2, "num_heads": 3} | ({} if stem else {"patch_size": 4})
    model = ModelSettings("deit3_small_patch16_224", options, *stages)
    student = Student(Blueprint("small", model, 12, ("a", "b"), PIXELS)).eval()
    images = noise(8, 12, 12, 1)
    calibrate(student, images)
    fracs = dict(student.fracs)
    ranges = measure.activation_ranges(student, images)
    assert {entry.name for entry in ranges} == set(fracs) - {"residual", "head"}
    assert student.fracs == fracs
    assert all(entry.low <= entry.quantile_low <= entry.quantile_high <= entry.high for entry in ranges)
    assert measure.student_attention(student, images).shape == (8, 3, 3)
    assert "<svg" in figures.activation_ranges(ranges)
    assert "<svg" in figures.histograms(measure.some_latents(student))


def test_attention_is_that_of_timm():
    torch.manual_seed(3)
    teacher = teacher_of("vit").freeze()
    images, block, seen = noise(3, 28, 28, 1), teacher.net.blocks[-1], {}
    block.attn.fused_attn = False
    block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.update(weights=output))
    kind, found = measure.teacher_map(teacher, images)
    assert kind == "attention"
    assert torch.allclose(found, seen["weights"].mean(1)[:, 0, 1:].view(3, 2, 2), atol=1e-6)


def test_grad_cam_weighs_channels_by_their_gradient():
    torch.manual_seed(4)
    teacher = teacher_of("cnn").freeze()
    images = noise(3, 28, 28, 1)
    kind, found = measure.teacher_map(teacher, images)
    x = teacher.pixels.normalize(images)
    maps, logits = teacher.net.forward_features(x), teacher.net(x)
    # Mean pooling and a linear classifier: the gradient at every place is the winner's weights over the places.
    weights = teacher.net.fc.weight[logits.argmax(1)] / maps[0, 0].numel()
    assert kind == "Grad-CAM"
    assert torch.allclose(found, torch.einsum("bc,bchw->bhw", weights, maps).clamp(min=0), atol=1e-6)


def test_a_teacher_without_class_token_has_no_map():
    assert measure.teacher_map(teacher_of("averaging").freeze(), noise(2, 28, 28, 1)) is None


def test_examples_show_mistakes_first():
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    pictures = MemoryPictures(noise(6, 4, 4, 1), targets, ("a", "b", "c"))
    logits = np.array([[9, 0, 0], [5, 0, 0], [0, 8, 0], [2, 0, 0], [7, 0, 0], [0, 0, 1]], np.float32)
    found = measure.examples(pictures, logits, 4)
    # Wrong are 4 and 1 (b for a) and 2 (c for b); of each kind the surest first.
    assert [(example.target, example.found) for example in found] == [(2, 1), (1, 0), (1, 0), (0, 0)]
    assert np.array_equal(found[1].pixels, pictures.images[4].numpy())
    assert found[3].probability == pytest.approx(float(np.exp(9) / (np.exp(9) + 2)))
    assert gallery(found, pictures.labels).count('class="wrong"') == 3
    assert len(measure.examples(pictures, logits, 100)) == 6


def test_one_of_each_class():
    assert measure.one_of_each(np.array([2, 2, 0, 1, 0]), 3) == [2, 3, 0]
    assert measure.one_of_each(np.array([1, 1]), 6) == [0, 1]


def test_confusion_comes_from_the_evaluation(run, tmp_path, student):
    matrix = np.full((10, 10), 3) + 40 * np.eye(10, dtype=int)
    values = {"labels": list(student.blueprint.labels), "confusion": matrix.tolist()}
    (tmp_path / "eval.json").write_text(json.dumps(values))
    section = Report.open(RunFolder.open(run), tmp_path / "eval.json").confusion()
    share = 100 * 430 / matrix.sum()
    assert section.sentence.startswith(f"{matrix.sum()} test pictures, counted by `trainer evaluate`, {share:.2f} %")
    assert "<svg" in section.content
    (tmp_path / "eval.json").write_text(json.dumps({**values, "labels": ["of", "another", "model"]}))
    assert RunFolder.open(run).evaluation(tmp_path / "eval.json", student) is None


def test_confusion_without_evaluation_is_the_students(run, page, student):
    pictures = open_test(RunFolder.open(run).config.data)
    with torch.no_grad():
        right = (student(pictures.images).argmax(1) == pictures.targets).double().mean().item()
    assert f"60 test pictures, as the student classifies them, {100 * right:.2f} % right" in page


def test_labels_of_a_matrix_are_shown_letter_for_letter():
    drawn = figures.confusion(np.diag([1, 2, 0]), ["$x$", "_{", "a label of more than eighteen letters"])
    assert drawn.startswith("<svg")
    assert figures.plain("5 $") == r"5 \$"
    assert len(figures.plain("a label of more than eighteen letters")) == 18


def test_many_classes_become_a_table_of_pairs():
    matrix = np.diag([5] * 40)
    matrix[3, 7], matrix[7, 3], matrix[1, 2] = 5, 2, 1
    rows = most_confused(matrix, [f"c{index}" for index in range(40)])
    assert rows[1:] == [
        ["c3", "c7", "5", "50.0 %", "2"],
        ["c7", "c3", "2", "28.6 %", "5"],
        ["c1", "c2", "1", "16.7 %", "0"],
    ]


def test_what_is_missing_is_left_out_with_a_line(run, tmp_path, student):
    for name in ("settings.json", "student.fp32.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    text = write_report(tmp_path, evaluation=tmp_path / NOWHERE).read_text()
    assert f"Left out: no logs (*.jsonl) in {tmp_path}." in text
    assert "Left out: not found; `trainer train` or `trainer export` makes it." in text
    assert "there is no checkpoint of the teacher" in text
    assert [anchor for anchor in ANCHORS if f'<section id="{anchor}">' in text] == ANCHORS


def test_logs_and_settings_of_a_record(run, tmp_path):
    record = {"configuration": json.loads((run / "settings.json").read_text())}
    record["epochs_log"] = {"student": [json.loads(line) for line in log(3).splitlines()]}
    (tmp_path / "record.json").write_text(json.dumps(record))
    opened = RunFolder.open(tmp_path)
    assert list(opened.logs()) == ["student"]
    assert opened.config.data.validation == 40


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no run, neither settings.json nor record.json is in it; `trainer train` makes both"),
        ({"settings.json": "{"}, "settings.json: cannot be read"),
        ({"settings.json": '{"seed": 1}'}, "settings of another version of this trainer"),
        ({"settings.json": None}, "student.fp32.safetensors: not found; `trainer train` makes it"),
        ({"settings.json": None, "student.fp32.safetensors": "x"}, "not a checkpoint of this trainer"),
    ],
)
def test_folders_that_are_no_run(run, tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text((run / name).read_text() if content is None else content)
    with pytest.raises(TrainerError, match=re.escape(words)):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_no_folder(tmp_path):
    with pytest.raises(TrainerError, match="no such folder; `trainer train --run"):
        write_report(tmp_path / NOWHERE)


def test_checkpoints_elsewhere(run, tmp_path):
    (tmp_path / "settings.json").write_bytes((run / "settings.json").read_bytes())
    opened = RunFolder.open(tmp_path, run)
    assert opened.student().blueprint.name == "small"
    assert opened.teacher().blueprint.model.name == "small_resnet"


def test_logs_that_are_none(run, tmp_path):
    (tmp_path / "settings.json").write_bytes((run / "settings.json").read_bytes())
    (tmp_path / "student.jsonl").write_text("not a log\n")
    with pytest.raises(TrainerError, match=r"student.jsonl: not a log of this trainer"):
        RunFolder.open(tmp_path).logs()


def test_pieces_of_a_page():
    assert "<h2>A &amp; B</h2>" in Section("a", "A & B", "Left out.").html()
    assert table([["x", "y"], ["<1>", "2"]]).count("&lt;1&gt;") == 1
    address = png(np.zeros((2, 3, 1), np.uint8))
    assert base64.b64decode(address.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_command_says_what_is_wrong_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["trainer", "report", str(tmp_path)])
    assert main() == 1
    assert re.fullmatch(r"trainer: .*: no run, .*\n", capsys.readouterr().err)


def test_a_page_lies_in_its_run_and_never_beside_committed_checkpoints(tmp_path):
    assert page_path(tmp_path) == tmp_path / "report.html"
    assert page_path(BUILD / "train" / "x") == BUILD / "train" / "x" / "report.html"
    for given in (CHECKPOINTS, Path(os.path.relpath(CHECKPOINTS))):
        assert page_path(given) == BUILD / "report.html"
    assert page_path(CHECKPOINTS / "other") == BUILD / "report-other.html"
