# SPDX-License-Identifier: MIT
"""The numbers behind the report's figures, from student, teacher and data, without matplotlib."""

from dataclasses import dataclass

import numpy as np
import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.data import Pictures
from trainer.integer.calibrate import Recording
from trainer.integer.operations import STAGE, operations
from trainer.model.layers import Ternary, ternary_modules
from trainer.model.student import Student
from trainer.model.teacher import Teacher

MOST_PICTURES = 128  # whose activations are recorded
MOST_VALUES = 1 << 19  # of one layer over all of them, about; DeiT-tiny gets 13 pictures and about 1 GB
SAMPLE = 1 << 20  # values of a layer that its quantiles are taken from
QUANTILES = (0.001, 0.999)


@dataclass(frozen=True)
class LayerTrits:
    """Trits of a layer by timm's name: `counts` of -1, 0 and +1; all zero for a layer left in full precision."""

    name: str
    size: int
    counts: tuple[int, int, int]

    @property
    def shares(self) -> tuple[float, ...]:
        """Parts of -1, 0 and +1 in all weights of the layer."""
        return tuple(count / self.size for count in self.counts)


def layer_trits(student: Student) -> list[LayerTrits]:
    """All matrices and norms of a student, in the order of the network."""
    layers = []
    for name, module in student.vit.named_modules():
        if isinstance(module, Ternary):
            trits = module.trits()[0]
            minus, zero, plus = (int((trits == value).sum()) for value in (-1, 0, 1))
            layers.append(LayerTrits(name, trits.numel(), (minus, zero, plus)))
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
            layers.append(LayerTrits(name, sum(p.numel() for p in module.parameters()), (0, 0, 0)))
    return layers


@dataclass(frozen=True)
class Latent:
    """A layer before and after: latent weights in units of their channel's scale [n], their trits [n], and the
    threshold between 0 and 1 of each channel (in the same units)."""

    name: str
    weights: np.ndarray
    trits: np.ndarray
    thresholds: np.ndarray


def latent(name: str, layer: Ternary) -> Latent:
    """See Latent; a channel's threshold lies half way between its largest 0 and its smallest survivor."""
    trits, scale = layer.trits()
    with torch.no_grad():
        weights = layer.latent() / scale.clamp(min=1e-8)[:, None]
    magnitude, zero = weights.abs(), trits == 0
    largest = torch.where(zero, magnitude, 0.0).amax(1)
    smallest = torch.where(zero, torch.inf, magnitude).amin(1)
    both = zero.any(1) & (~zero).any(1)
    thresholds = ((largest + smallest) / 2)[both]
    return Latent(name, *(values.flatten().numpy() for values in (weights, trits, thresholds)))


def some_latents(student: Student) -> list[Latent]:
    """Layers from the first to the last: of each kind one."""
    layers, last = ternary_modules(student.vit), student.architecture.depth - 1
    first = f"{STAGE}.0.conv" if student.architecture.stem else "patch_embed.proj"
    middle = f"blocks.{last // 2}"
    names = (first, "blocks.0.attn.qkv", f"{middle}.attn.proj", f"{middle}.norm2", f"blocks.{last}.mlp.fc2", "head")
    return [latent(name, layers[name]) for name in names if name in layers]


def pictures_to_record(student: Student, pictures: Pictures) -> Tensor:
    """uint8 [count, height, width, channels]: evenly spaced pictures, as many as memory allows."""
    tokens = student.vit.patch_embed.num_patches + 1
    count = max(8, min(MOST_PICTURES, MOST_VALUES // (tokens * student.architecture.embed_dim)))
    return torch.cat([batch.images for batch in pictures.spread(count).ordered(count)])


@dataclass(frozen=True)
class Range:
    """An activation against int8 at 2^-frac: smallest, 0.1 %, 99.9 % and largest value, and the part of all values
    that is clipped."""

    name: str
    frac: int
    low: float
    quantile_low: float
    quantile_high: float
    high: float
    saturated: float

    @classmethod
    def of(cls, name: str, x: Tensor, frac: int) -> "Range":
        """From float values of any shape."""
        x = x.flatten()
        steps = torch.round(x * 2.0**frac)
        saturated = ((steps < -128) | (steps > 127)).double().mean().item()
        sample = x[:: max(1, len(x) // SAMPLE)].numpy()
        low, high = np.quantile(sample, QUANTILES).tolist()
        return cls(name, frac, x.min().item(), low, high, x.max().item(), saturated)

    @property
    def limits(self) -> tuple[float, float]:
        """What int8 can hold."""
        return -128 * 2.0**-self.frac, 127 * 2.0**-self.frac


def activation_ranges(student: Student, images: Tensor) -> list[Range]:
    """Ranges of all int8 activations on uint8 pictures [count, height, width, channels]."""
    recording = Recording(student, images)
    values = (value for operation in operations(student.architecture) for value in recording.int8(operation))
    return [Range.of(name, x, student.fracs[name]) for name, x in values]


def class_attention(vit: VisionTransformer, q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Attention of the class token over the patches, the mean over heads: [batch, rows, columns].

    q, k: [batch, heads, T, d].
    """
    weights = torch.softmax(q[:, :, :1] @ k.transpose(-1, -2) * scale, -1).mean(1)[:, 0]
    return weights[:, vit.num_prefix_tokens :].unflatten(1, vit.patch_embed.grid_size)


def attention_of(vit: VisionTransformer, x: Tensor) -> Tensor:
    """class_attention of a VisionTransformer's last block on normalised pictures [batch, channels, height, width]."""
    attention = vit.blocks[-1].attn
    kept: list[Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda module, inputs, output: kept.append(output.detach()))
    try:
        with torch.no_grad():
            vit.eval()(x)
    finally:
        hook.remove()
    q, k, _ = kept[0].unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    with torch.no_grad():
        return class_attention(vit, attention.q_norm(q), attention.k_norm(k), attention.scale)


def student_attention(student: Student, images: Tensor) -> Tensor:
    """[batch, rows, columns] on uint8 pictures, with float activations."""
    return attention_of(student.vit, student.pixels.normalize(images))


def grad_cam(net: nn.Module, x: Tensor) -> Tensor | None:
    """Grad-CAM (arXiv 1610.02391) of the winning class on the last feature map: [batch, rows, columns].

    None for a model whose features are no maps [batch, channels, rows, columns].
    """
    with torch.no_grad():
        maps = net.eval().forward_features(x)
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1] != net.num_features:
        return None
    maps = maps.detach().requires_grad_()
    net.forward_head(maps).amax(1).sum().backward()
    return (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).clamp(min=0).detach()


def teacher_map(teacher: Teacher, images: Tensor) -> tuple[str, Tensor] | None:
    """The kind of map that the teacher has, and the map [batch, rows, columns]; None for a model without."""
    net, x = teacher.net, teacher.pixels.normalize(images)
    if isinstance(net, VisionTransformer):
        supported = net.has_class_token and type(net.blocks[-1].attn) is Attention
        return ("attention", attention_of(net, x)) if supported else None
    cam = grad_cam(net, x) if hasattr(net, "forward_features") and hasattr(net, "num_features") else None
    return None if cam is None else ("Grad-CAM", cam)


@dataclass(frozen=True)
class Example:
    """A picture uint8 [height, width, channels], its class, the student's answer and its probability."""

    pixels: np.ndarray
    target: int
    found: int
    probability: float


def firsts_first(order: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """`order` with the first of each kind in front; kinds: that of each index in `order`."""
    first = np.zeros(len(order), bool)
    first[np.unique(kinds, return_index=True)[1]] = True
    return np.concatenate([order[first], order[~first]])


def one_of_each(targets: np.ndarray, count: int) -> list[int]:
    """Indices of up to `count` pictures, the first of each class before any second, in the order of the classes."""
    chosen = firsts_first(np.arange(len(targets)), targets)[:count]
    return sorted(chosen.tolist(), key=lambda index: (int(targets[index]), index))


def examples(pictures: Pictures, logits: np.ndarray, count: int) -> list[Example]:
    """Some pictures, about three quarters of them wrong; wrong ones first, most probable ones of each kind of mistake.

    logits: [len(pictures), classes].
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    sure, found = (shifted / shifted.sum(1, keepdims=True)).max(1), logits.argmax(1)
    targets = pictures.targets.numpy()
    order = np.argsort(-sure, kind="stable")
    wrong = order[(found != targets)[order]]
    right = order[(found == targets)[order]]
    misses = firsts_first(wrong, targets[wrong] * logits.shape[1] + found[wrong])
    misses = misses[: max(3 * count // 4, count - len(right))]
    chosen = [int(index) for index in (*misses, *firsts_first(right, targets[right])[: count - len(misses)])]
    images = torch.cat([batch.images for batch in pictures.picked(chosen).ordered(len(chosen))]).numpy()
    return [
        Example(pixels, int(targets[index]), int(found[index]), float(sure[index]))
        for pixels, index in zip(images, chosen, strict=True)
    ]
