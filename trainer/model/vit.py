# SPDX-License-Identifier: MIT
"""timm's vision transformers by name, with an optional convolutional stem, and which of them SPEC has a form for."""

import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import timm.models
from timm.layers import Attention, ConvNormAct, Format, HybridEmbed, LayerScale, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer import checkpoint_filter_fn as fit_vit
from torch import nn

from host_sim.setup.package import import_ftervit
from trainer.errors import TrainerError, require


@dataclass(frozen=True)
class ModelSettings:
    """A timm model by name.

    options: further arguments of the timm model (embed_dim, depth, num_heads, mlp_ratio, init_values ...);
    stem: [channels, kernel, stride, padding] of each convolution before the patch embedding, with BatchNorm and ReLU;
    patch: [kernel, stride, padding] of the patch embedding after a stem;
    pretrained: start from timm's weights for the name; checkpoint: or from a local file of them. Both are fitted: a
    head for other classes starts anew, positions are resampled, the first layer's channels adapted.
    """

    name: str
    options: dict = field(default_factory=dict)
    stem: list[list[int]] = field(default_factory=list)
    patch: list[int] = field(default_factory=list)
    pretrained: bool = False
    checkpoint: str = ""

    def __post_init__(self) -> None:
        require(all(len(stage) == 4 for stage in self.stem), "stem needs [channels, kernel, stride, padding] each")
        require(len(self.patch) == (3 if self.stem else 0), "patch needs [kernel, stride, padding] with a stem only")
        convolutions = [("stem", stage) for stage in self.stem] + [("patch", self.patch) for _ in self.stem[:1]]
        for name, sizes in convolutions:
            require(min(sizes[:-1]) >= 1, f"{name} has a size of {min(sizes[:-1])}, must be at least 1")
            require(sizes[-1] >= 0, f"{name} has a padding of {sizes[-1]}, must not be negative")


class ConvEmbed(HybridEmbed):
    """timm's HybridEmbed over convolutions, whose projection may overlap and pad."""

    def __init__(self, stem: list[list[int]], patch: list[int], **arguments: Any):
        inputs, stages = arguments["in_chans"], []
        for channels, kernel, stride, padding in stem:
            stage = ConvNormAct(inputs, channels, kernel, stride, padding)
            stage.bn.act = nn.ReLU()  # not in place: calibration records its input
            stages.append(stage)
            inputs = channels
        kept = {key: arguments[key] for key in ("img_size", "in_chans", "embed_dim")}
        super().__init__(nn.Sequential(*stages), patch_size=1, **kept)
        self.proj = nn.Conv2d(inputs, arguments["embed_dim"], *patch)
        kernel, stride, padding = patch
        self.grid_size = tuple((side + 2 * padding - kernel) // stride + 1 for side in self.feature_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]


def create_timm(settings: ModelSettings, **arguments: Any) -> nn.Module:
    """timm's model of that name; raises TrainerError with timm's error message."""
    if not timm.is_model(settings.name):
        near = difflib.get_close_matches(settings.name, timm.list_models(), 5)
        raise TrainerError(f"{settings.name} is no timm model" + (f"; near it: {', '.join(near)}" if near else ""))
    if settings.checkpoint and not Path(settings.checkpoint).is_file():
        raise TrainerError(f"{settings.checkpoint}: checkpoint not found")
    try:
        made = timm.create_model(settings.name, pretrained=settings.pretrained, **{**arguments, **settings.options})
    except Exception as error:  # from timm, torch, or the libraries that fetch the weights
        raise TrainerError(f"{settings.name}: {str(error) or type(error).__name__}") from None
    if settings.checkpoint:
        try:
            load_fitted(made, settings.checkpoint)
        except Exception as error:  # from timm, torch, or the libraries that read the weights
            problem = str(error) or type(error).__name__
            raise TrainerError(f"{settings.name}: {settings.checkpoint}: does not fit: {problem}") from None
    return made


def load_fitted(model: nn.Module, path: str) -> None:
    """Fill a timm model from a local file of weights, fitted to it as timm fits pretrained ones.

    A head of another shape stays as it is. Any other weight that is missing, left over or of another shape is an error.
    """
    if Path(path).suffix.lower() in (".npz", ".npy"):
        timm.models.load_checkpoint(model, path)  # timm's models fit these themselves
        return
    state, config = timm.models.load_state_dict(path), getattr(model, "pretrained_cfg", None) or {}
    # Each family of models has its own filter, where it needs one.
    fit = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if isinstance(model, VisionTransformer):
        state = fit_vit(state, model, adapt_layer_scale=True)
    elif fit:
        state = fit(state, model)
    expected = model.state_dict()
    for name in named(config.get("first_conv")):
        weight, wanted = state.get(f"{name}.weight"), expected.get(f"{name}.weight")
        if weight is not None and wanted is not None and weight.shape[1] != wanted.shape[1]:
            state[f"{name}.weight"] = timm.models.adapt_input_conv(wanted.shape[1], weight, weight.shape[1])
    for name in named(config.get("classifier")):
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in expected and (key not in state or state[key].shape != expected[key].shape):
                state[key] = expected[key]
    model.load_state_dict(state)


def named(layers: str | Sequence[str] | None) -> Sequence[str]:
    """The layers that timm's configuration of a model names: one, several or none."""
    return (layers,) if isinstance(layers, str) else layers or ()


def create_vit(settings: ModelSettings, img_size: int, in_chans: int, classes: int) -> VisionTransformer:
    """A timm VisionTransformer that SPEC has a form for; otherwise TrainerError names the layer."""
    embed = {"embed_layer": partial(ConvEmbed, settings.stem, settings.patch)} if settings.stem else {}
    # Only a VisionTransformer takes img_size; other classes are refused below.
    model = create_timm(settings, img_size=img_size, in_chans=in_chans, num_classes=classes, **embed)
    for problem in unsupported(model):
        raise TrainerError(f"{settings.name}: {problem}")
    # timm resamples positions only of pictures that its patches cover to the last pixel.
    if settings.stem or img_size % model.patch_embed.patch_size[0] == 0:
        take_any_size(model)
    return model


def take_any_size(vit: VisionTransformer) -> None:
    """Let a model take pictures of other sizes than its own: it resamples its positions to their grid as it runs.

    Positions for its own grid stay as they are, bit for bit. timm's argument for this is not for every model by name.
    """
    vit.dynamic_img_size = True
    embed = vit.patch_embed
    embed.strict_img_size, embed.flatten, embed.output_fmt = False, False, Format.NHWC


OWNED = {"img_size": "data.size", "in_chans": "data.channels", "num_classes": "[data]"}


def check_settings(settings: ModelSettings, img_size: int, in_chans: int) -> None:
    """Build a student's model without its weights; TrainerError that names the option at fault, before any training."""
    for key in OWNED.keys() & settings.options.keys():
        raise TrainerError(f"options.{key} = {settings.options[key]!r}: leave it out, {OWNED[key]} gives it")
    settings = replace(settings, pretrained=False, checkpoint="")

    def problem(options: dict) -> str:
        try:
            # Any number of classes; SPEC's bound is checked with the data's.
            architecture_of(create_vit(replace(settings, options=options), img_size, in_chans, 10), "model")
        except TrainerError as error:
            return str(error)
        return ""

    found = problem(settings.options)
    if not found:
        return
    for key, value in settings.options.items():
        if not problem({name: other for name, other in settings.options.items() if name != key}):
            raise TrainerError(f"options.{key} = {value!r}: {found}")
    raise TrainerError(found)


def is_plain(module: nn.Module) -> bool:
    """Whether a module does nothing in evaluation mode."""
    return isinstance(module, nn.Identity | nn.Dropout) or type(module).__name__ == "DropPath"


def unsupported(vit: nn.Module) -> Iterator[str]:
    """The parts of a timm model that SPEC has no form for, each as "layer: why"."""
    if type(vit) is not VisionTransformer:
        yield f"{type(vit).__name__} is not timm's VisionTransformer"
        return
    if not vit.has_class_token or vit.num_prefix_tokens != 1 or vit.global_pool != "token":
        yield f"pool: {vit.global_pool} over {vit.num_prefix_tokens} prefix tokens, must be the class token alone"
    if vit.pos_embed is None:
        yield "pos_embed: missing"
    for name in ("norm_pre", "fc_norm", "patch_drop"):
        if not is_plain(getattr(vit, name)):
            yield f"{name}: {type(getattr(vit, name)).__name__} has no integer form"
    for name, kind in (("norm", nn.LayerNorm), ("head", nn.Linear)):
        if not isinstance(getattr(vit, name), kind):
            yield f"{name}: {type(getattr(vit, name)).__name__} has no integer form"
    if not len(vit.blocks):
        yield "blocks: there are none"
    yield from unsupported_embedding(vit.patch_embed)
    for index, block in enumerate(vit.blocks):
        for problem in unsupported_block(block):
            yield f"blocks.{index}{problem}"


def unsupported_embedding(embed: nn.Module) -> Iterator[str]:
    """`unsupported` for patch_embed."""
    if not isinstance(embed, PatchEmbed | ConvEmbed):
        yield f"patch_embed: {type(embed).__name__} has no integer form"
    elif isinstance(embed, PatchEmbed) and not is_plain(embed.norm):
        yield f"patch_embed.norm: {type(embed.norm).__name__} has no integer form"
    elif embed.img_size[0] != embed.img_size[1]:
        yield f"patch_embed: pictures of {embed.img_size[0]} x {embed.img_size[1]}, must be square"


def unsupported_block(block: nn.Module) -> Iterator[str]:
    """`unsupported` for one transformer block, names relative to it."""
    if type(block) is not Block:
        yield f": {type(block).__name__} has no integer form"
        return
    known = True
    for name, kind in (("attn", Attention), ("mlp", Mlp)):
        part = block.get_submodule(name)
        if type(part) is not kind:
            known = False
            yield f".{name}: {type(part).__name__} has no integer form"
    if not known:
        return
    for name in ("attn.q_norm", "attn.k_norm", "attn.norm", "mlp.norm"):
        part = block.get_submodule(name)
        if not is_plain(part):
            yield f".{name}: {type(part).__name__} has no integer form"
    if block.attn.gate is not None:
        yield ".attn.gate: a gated attention has no integer form"
    for name in ("ls1", "ls2"):
        part = block.get_submodule(name)
        if not (is_plain(part) or isinstance(part, LayerScale)):
            yield f".{name}: {type(part).__name__} has no integer form"
    if list(block.mlp.act.parameters()):
        yield f".mlp.act: {type(block.mlp.act).__name__} has weights, so no table gives it"


@dataclass(frozen=True)
class Architecture:
    """Sizes of a vision transformer, named as in the model file (SPEC 10.4)."""

    name: str
    img_size: int
    in_chans: int
    stem: list[list[int]]
    patch_size: int
    patch_stride: int
    patch_padding: int
    num_classes: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_hidden: int
    pool: str = "token"

    def __post_init__(self) -> None:
        problem = import_ftervit().architecture.architecture_problem(asdict(self))
        if problem:
            raise TrainerError(": ".join(problem))


def convolution_sizes(conv: nn.Conv2d) -> list[int]:
    """[channels, kernel, stride, padding]; raises TrainerError where height and width differ."""
    sizes = [conv.out_channels]
    for name in ("kernel_size", "stride", "padding"):
        height, width = getattr(conv, name)
        require(height == width, f"{name} {height} x {width}, must be square")
        sizes.append(height)
    return sizes


def architecture_of(vit: VisionTransformer, name: str) -> Architecture:
    """The sizes of a supported model; TrainerError where they are beyond SPEC's bounds."""
    embed = vit.patch_embed
    stages: Sequence[Any] = embed.backbone if isinstance(embed, ConvEmbed) else ()
    _, kernel, stride, padding = convolution_sizes(embed.proj)
    return Architecture(
        name=name,
        img_size=embed.img_size[0],
        in_chans=(stages[0].conv if len(stages) else embed.proj).in_channels,
        stem=[convolution_sizes(stage.conv) for stage in stages],
        patch_size=kernel,
        patch_stride=stride,
        patch_padding=padding,
        num_classes=vit.num_classes,
        embed_dim=vit.embed_dim,
        depth=len(vit.blocks),
        num_heads=vit.blocks[0].attn.num_heads,
        mlp_hidden=vit.blocks[0].mlp.fc1.out_features,
    )
