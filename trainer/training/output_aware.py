# SPDX-License-Identifier: MIT
"""Output-aware rounding: ternary weights whose outputs, not values, are close to those of an FP32 model.

Goes through the layers in the order of the forward pass. Each layer's weights are rounded column by column; the later
columns compensate the error of a column as far as the layer's inputs allow (GPTQ, arXiv 2210.17323, here to trits).
Then least squares fits each channel's scale and bias to the FP32 model's outputs, on the inputs that the ternary layers
before it produce.
"""

import copy

import torch
from torch import Tensor
from tqdm import tqdm

from trainer.integer.patches import patches
from trainer.model.layers import Ternary, TernaryBitConv2d, TernaryLayerNorm, ternary_modules
from trainer.model.quantize import least_squares
from trainer.model.student import Student
from trainer.model.vit import convolution_sizes

DAMPING = 0.01  # of the mean of the inputs' second moments, added to each
OUTPUT_AWARE = "output-aware rounding"


def seen_by(student: Student, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs of the ternary layer `name` as rows in the order of its weight [rows, K], and its outputs [rows, N]."""
    seen: list[Tensor] = []
    layer = student.vit.get_submodule(name)
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    try:
        with torch.no_grad():
            student.eval()(images)
    finally:
        hook.remove()
    inputs, outputs = seen
    if isinstance(layer, TernaryBitConv2d):
        _, *sizes = convolution_sizes(layer)
        inputs, outputs = patches(inputs.permute(0, 2, 3, 1), *sizes), outputs.permute(0, 2, 3, 1)
    return inputs.flatten(0, -2), outputs.flatten(0, -2)


def rounded(weight: Tensor, inputs: Tensor) -> Tensor:
    """Trits [N, K] of `weight` under its least-squares scales; later columns compensate the error of each column."""
    weight = weight.double().clone()
    scale = least_squares(weight)[1].clamp(min=1e-12)
    moments = inputs.double().T @ inputs.double() / len(inputs)
    moments += torch.eye(len(moments)) * (DAMPING * moments.diagonal().mean() + 1e-12)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)
    trits = torch.empty_like(weight)
    for column in range(weight.shape[1]):
        trits[:, column] = torch.round(weight[:, column] / scale[:, 0]).clamp(-1, 1)
        loss = (weight[:, column] - trits[:, column] * scale[:, 0]) / inverse[column, column]
        weight[:, column + 1 :] -= loss[:, None] * inverse[column, column + 1 :]
    return trits


def fitted(trits: Tensor, inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and bias [N] with the least squared error of scale * (trits x) + bias to `wanted` [rows, N]."""
    sums = inputs.double() @ trits.T
    mean, wanted_mean = sums.mean(0), wanted.double().mean(0)
    spread = (sums - mean).square().sum(0)
    scale = ((sums - mean) * (wanted - wanted_mean)).sum(0) / spread.clamp(min=1e-12)
    scale = scale.clamp(min=0)
    return scale, wanted_mean - scale * mean


def set_layer(layer: Ternary, trits: Tensor, scale: Tensor) -> None:
    """Set latent weights from which every rule with a scale per channel gives these trits and scales."""
    with torch.no_grad():
        layer.weight.copy_(layer.as_weight((trits * scale[:, None]).float()))


def set_bias(student: Student, name: str, bias: Tensor) -> None:
    """Set the bias of a layer. If a stem layer has none, shift the mean of the BatchNorm after it; else do nothing.

    No parameter is added: optimizers and checkpoints depend on the model's parameters.
    """
    layer, stage = student.vit.get_submodule(name), name.removesuffix(".conv")
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.copy_(bias)
        elif stage != name:
            student.vit.get_submodule(f"{stage}.bn").running_mean.sub_(bias)


def output_aware(student: Student, images: Tensor) -> None:
    """Make a student in full precision ternary in place, by the outputs of its layers on `images` (NHWC uint8)."""
    exact = copy.deepcopy(student)
    for name, layer in tqdm(ternary_modules(student.vit).items(), OUTPUT_AWARE, leave=False, disable=None):
        if not isinstance(layer, TernaryLayerNorm):
            inputs, _ = seen_by(student, name, images)
            _, wanted = seen_by(exact, name, images)
            trits = rounded(layer.latent().detach(), inputs)
            scale, bias = fitted(trits, inputs, wanted)
            set_layer(layer, trits, scale)
            set_bias(student, name, bias)
        layer.full_precision = False
