# SPDX-License-Identifier: MIT
"""Errors of ternary gammas and static scales on harder weights and activations than small models have, untrained.

`python -m trainer.experiments.stress` prints two tables as markdown and writes build/stress.json. All inputs are made
up: gammas that spread as a log-normal distribution, and a random transformer some of whose channels are many times
larger.
Errors are relative: root mean square of the difference, divided by that of the exact output.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from host_sim.tables import markdown
from trainer.files import write_json
from trainer.integer.calibrate import calibrate
from trainer.model.layers import TernaryBitLinear, TernaryLayerNorm, TernarySettings, ternary_modules
from trainer.model.pixels import Pixels
from trainer.model.quantize import Rule
from trainer.model.student import Blueprint, Student
from trainer.model.vit import ModelSettings

SIGMAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
FACTORS = (1, 3, 10, 30, 100)
GAMMA_RULES = ("absmean", "twn", "least_squares")
WIDTH, ROWS, OUTLIERS, PICTURES = 384, 256, 3, 32
MODEL = ModelSettings("vit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 96, "depth": 2, "num_heads": 3})
PIXELS = Pixels((0.286,), (0.353,))


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference, divided by that of `exact`."""
    return ((found - exact).norm() / exact.norm()).item()


def spread_layernorm(sigma: float, width: int = WIDTH, seed: int = 0) -> nn.LayerNorm:
    """A LayerNorm with gammas exp(sigma n), n normal, and betas 0.1 n."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.LayerNorm(width, eps=1e-6)
    with torch.no_grad():
        layer.weight.copy_(torch.exp(sigma * torch.randn(width, generator=generator)))
        layer.bias.copy_(0.1 * torch.randn(width, generator=generator))
    return layer


def ternary_twin(layer: nn.LayerNorm, rule: str) -> TernaryLayerNorm:
    """The same LayerNorm with ternary gamma and beta."""
    twin = TernaryLayerNorm(layer.normalized_shape, layer.eps)
    twin.load_state_dict(layer.state_dict())
    twin.rule = Rule(rule)
    return twin


def gamma_row(sigma: float, seed: int = 0) -> dict[str, float]:
    """Relative errors for gammas that spread by `sigma`: of the LayerNorm's output for each rule, and, for "behind",
    of a ternary linear layer after it (TWN both), whose own error without the LayerNorm's is "linear"."""
    layer = spread_layernorm(sigma, seed=seed)
    torch.manual_seed(seed)
    x = torch.randn(ROWS, WIDTH)
    linear = TernaryBitLinear(WIDTH, WIDTH)
    with torch.no_grad():
        exact = layer(x)
        row = {"sigma": sigma} | {rule: relative_error(ternary_twin(layer, rule)(x), exact) for rule in GAMMA_RULES}
        linear.full_precision = True
        through = linear(exact)
        linear.full_precision = False
        row["linear"] = relative_error(linear(exact), through)
        row["behind"] = relative_error(linear(ternary_twin(layer, "twn")(x)), through)
    return row


def random_student(activations: str, factor: float, seed: int = 0) -> Student:
    """A random student, OUTLIERS channels of whose residual stream are `factor` times larger from the start."""
    torch.manual_seed(seed)
    labels = tuple(map(str, range(10)))
    student = Student(Blueprint("stress", MODEL, 28, labels, PIXELS, TernarySettings(activations=activations))).eval()
    with torch.no_grad():
        for name, part in ternary_modules(student.vit).items():
            # timm initialises layers much smaller than trained ones are.
            if isinstance(part, TernaryBitLinear):
                part.weight.normal_(std=part.in_features**-0.5)
            if name == "patch_embed.proj":
                part.weight[:OUTLIERS] *= factor
                part.bias[:OUTLIERS] *= factor
        student.vit.pos_embed.normal_(std=0.5)
        student.vit.cls_token.normal_(std=0.5)
        for embedding in (student.vit.pos_embed, student.vit.cls_token):
            embedding[..., :OUTLIERS] *= factor
    return student


def outlier_row(factor: float, seed: int = 0) -> dict[str, float]:
    """Relative errors of the logits, ternary weights with float activations being exact: "static", SPEC's integers
    with their fixed powers of two; "per_token", int8 with a scale for each token at every layer's input. The mean
    over all pictures is subtracted first: it carries no information, and the large channels dominate it.
    """
    generator = torch.Generator().manual_seed(seed)
    light = torch.rand(2 * PICTURES, 1, 1, 1, generator=generator)
    coarse = light * torch.rand(2 * PICTURES, 1, 7, 7, generator=generator) * 255
    pictures = nn.functional.interpolate(coarse, 28, mode="bilinear").to(torch.uint8).permute(0, 2, 3, 1)
    student, per_token = (random_student(activations, factor, seed) for activations in ("static", "per_token"))
    with torch.no_grad():
        exact = student(pictures[PICTURES:])
        calibrate(student, pictures[:PICTURES])
        static, dynamic = (model(pictures[PICTURES:]).float() for model in (student, per_token))
    exact, static, dynamic = (logits - logits.mean(0) for logits in (exact, static, dynamic))
    return {
        "factor": factor,
        "static": relative_error(static, exact),
        "per_token": relative_error(dynamic, exact),
        "same_class_static": (static.argmax(1) == exact.argmax(1)).float().mean().item(),
        "same_class_per_token": (dynamic.argmax(1) == exact.argmax(1)).float().mean().item(),
    }


def percentages(rows: list[dict[str, float]], key: str, first: str, columns: dict[str, str]) -> str:
    """Markdown: column `key` under the head `first`, then percentages, whose heads `columns` gives by key."""
    cells = ((f"{row[key]:g}", *(f"{100 * row[name]:.1f} %" for name in columns)) for row in rows)
    return markdown((first, *columns.values()), cells)


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Both tables as markdown."""
    rules = {rule: f"LayerNorm, {rule.replace('_', ' ')}" for rule in GAMMA_RULES}
    behind = {"linear": "ternary linear layer alone", "behind": "LayerNorm and linear layer, twn"}
    columns = {
        "static": "logits, static int8",
        "per_token": "logits, int8 per token",
        "same_class_static": "same class, static",
        "same_class_per_token": "same class, per token",
    }
    gammas = percentages(results["gammas"], "sigma", "sigma of log gamma", rules | behind)
    outliers = percentages(results["outliers"], "factor", f"{OUTLIERS} channels larger by", columns)
    return (
        "**Ternary gammas that spread: relative error of a layer's output, before any training (`just stress`)**\n\n"
        f"{gammas}\n\n"
        "**Activations with outliers: relative error of an untrained network's logits, and how often the class stays "
        f"(`just stress`)**\n\n{outliers}"
    )


def measure(output: Path) -> str:
    """Measure, write JSON to `output`, and return both tables."""
    results = {"gammas": [gamma_row(sigma) for sigma in SIGMAS], "outliers": [outlier_row(f) for f in FACTORS]}
    write_json(results, output)
    return table(results)
