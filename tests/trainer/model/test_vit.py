# SPDX-License-Identifier: MIT
"""trainer.model.vit: which of timm's models have a form in SPEC, and the words for those that have none."""

import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import Format, RmsNorm, SwiGLUPacked, resample_abs_pos_embed
from timm.models.vision_transformer import ResPostBlock

from tests.tiny import ODD, SCALED, STEM, small
from trainer.errors import TrainerError
from trainer.model.pixels import Pixels
from trainer.model.student import Student
from trainer.model.vit import ModelSettings, architecture_of, check_settings, create_timm, create_vit


def create(name, options=None, img_size=32):
    return create_vit(ModelSettings(name, {"depth": 1, **(options or {})}), img_size, 3, 10)


@pytest.mark.parametrize(
    ("name", "width", "heads", "options"),
    [
        ("deit_tiny_patch16_224", 192, 3, {}),
        ("deit_small_patch16_224", 384, 6, {"depth": 1}),
        ("deit3_small_patch16_224", 384, 6, {"depth": 1}),
        ("vit_tiny_patch16_224", 192, 3, {"depth": 1}),
    ],
)
def test_sizes_of_timms_models(name, width, heads, options):
    sizes = architecture_of(create_vit(ModelSettings(name, options), 224, 3, 1000), "it")
    assert (sizes.embed_dim, sizes.num_heads, sizes.mlp_hidden) == (width, heads, 4 * width)
    assert sizes.depth == options.get("depth", 12)
    assert (sizes.name, sizes.img_size, sizes.in_chans, sizes.num_classes, sizes.pool) == ("it", 224, 3, 1000, "token")
    assert (sizes.patch_size, sizes.patch_stride, sizes.patch_padding, sizes.stem) == (16, 16, 0, [])


def test_sizes_of_ones_own():
    sizes = Student(ODD).architecture
    assert (sizes.img_size, sizes.in_chans, sizes.patch_size, sizes.num_classes) == (28, 1, 14, 7)
    assert (sizes.embed_dim, sizes.depth, sizes.num_heads, sizes.mlp_hidden) == (33, 2, 3, 17)


def test_sizes_of_a_stem():
    student = Student(STEM)
    assert student.architecture.stem == [[5, 5, 2, 1], [7, 3, 1, 2], [17, 2, 2, 0]]
    assert (student.architecture.patch_size, student.architecture.patch_stride) == (3, 2)
    assert student.architecture.patch_padding == 1
    # 29 -> 14 -> 16 -> 8 -> 4
    assert student.vit.pos_embed.shape == (1, 1 + 4 * 4, 20)
    assert student.vit(torch.zeros(1, 3, 29, 29)).shape == (1, 10)


def test_no_embed_class_has_positions_of_patches_alone():
    student = Student(SCALED)
    assert student.vit.no_embed_class
    assert student.vit.pos_embed.shape == (1, 9, 18)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled is not timm's VisionTransformer"),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1)}, ""),
        ("convnext_atto", {}, ""),
        ("resnet18", {}, ""),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}, "pool: token over 5 prefix tokens, must be the class token alone"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "pool: avg over 1 prefix tokens"),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, "pool: avg over 0 prefix tokens"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "blocks.0.attn.q_norm: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True}, "blocks.0.attn.norm: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"scale_mlp_norm": True}, "blocks.0.mlp.norm: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "norm_pre: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"final_norm": False}, "norm: Identity has no integer form"),
        ("vit_tiny_patch16_224", {"norm_layer": RmsNorm}, "norm: RmsNorm has no integer form"),
        ("vit_tiny_patch16_224", {"fc_norm": True}, "fc_norm: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"embed_norm_layer": "layernorm"}, "patch_embed.norm: LayerNorm has no integer form"),
        ("vit_tiny_patch16_224", {"pos_embed": "none"}, "pos_embed: missing"),
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.5}, "patch_drop: PatchDropout has no integer form"),
        ("vit_tiny_patch16_224", {"num_classes": 0}, "head: Identity has no integer form"),
        ("vit_tiny_patch16_224", {"act_layer": "prelu"}, "blocks.0.mlp.act: "),
        ("vit_tiny_patch16_224", {"img_size": (32, 64)}, "patch_embed: pictures of 32 x 64, must be square"),
        ("vit_tiny_patch16_224", {"embed_with": 3}, "embed_with"),
        ("vit_tiny_patch16_224", {"num_heads": 5}, ""),
        ("vit_tiny_patch16_224", {"mlp_layer": SwiGLUPacked}, "blocks.0.mlp: GluMlp has no integer form"),
        ("vit_tiny_patch16_224", {"attn_layer": "diff"}, "blocks.0.attn: DiffAttention has no integer form"),
        ("vit_tiny_patch16_224", {"block_fn": ResPostBlock}, "blocks.0: ResPostBlock has no integer form"),
    ],
)
def test_refusals_name_model_and_layer(name, options, words):
    with pytest.raises(TrainerError, match=f"^{re.escape(name)}: .*{re.escape(words)}") as refusal:
        create(name, options)
    assert not str(refusal.value).endswith(": ")


def test_unknown_names_are_refused_with_names_near_them():
    with pytest.raises(TrainerError, match=r"^vit_tinny_patch16_224 is no timm model; near it: vit_tiny_patch16_224,"):
        create("vit_tinny_patch16_224")
    with pytest.raises(TrainerError, match=r"^nonsense is no timm model$"):
        create("nonsense")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embed_dim": 4096, "num_heads": 4}, "embed_dim: 4096, at most 4032"),
        ({"img_size": 46, "patch_size": 1, "patch_stride": 1}, "tokens: 2117, at most 2048"),
        ({"mlp_hidden": 9600}, "mlp_hidden: 9600, at most 4032"),
        ({"embed_dim": 2050, "num_heads": 2}, "width of a head: 1025, at most 1024"),
        ({"in_chans": 2}, "in_chans: 2, must be 1 or 3"),
        ({"embed_dim": 34}, "num_heads: embed_dim must be a multiple of it"),
        ({"depth": 0}, "depth: 0 is not a whole number from 1"),
        ({"stem": [[4, 3, 2]]}, "stem"),
    ],
)
def test_sizes_beyond_specs_bounds_are_refused(changes, words):
    with pytest.raises(TrainerError, match=f"architecture .*{re.escape(words)}"):
        replace(Student(ODD).architecture, **changes)


def test_patches_must_be_square():
    with pytest.raises(TrainerError, match="kernel_size 8 x 16, must be square"):
        architecture_of(create("vit_tiny_patch16_224", {"patch_size": (8, 16)}), "it")


def test_stems_are_checked():
    with pytest.raises(TrainerError, match=r"stem needs \[channels, kernel, stride, padding\] each"):
        ModelSettings("vit_tiny_patch16_224", stem=[[32, 3, 2]], patch=[2, 2, 0])
    for stem, patch in (([[8, 3, 2, 1]], []), ([], [2, 2, 0]), ([[8, 3, 2, 1]], [2, 2])):
        with pytest.raises(TrainerError, match=r"patch needs \[kernel, stride, padding\] with a stem only"):
            ModelSettings("vit_tiny_patch16_224", stem=stem, patch=patch)


@pytest.mark.parametrize(
    ("stem", "patch"),
    [
        (((8, 3, 2, 1),), (3, 2, 9)),
        (((8, 30, 2, 0),), (1, 1, 0)),
        (((8, 3, 0, 1),), (1, 1, 0)),
        (((0, 3, 1, 1),), (1, 1, 0)),
        (((8, 3, 1, 1),), (0, 1, 0)),
        (((8, -3, 1, 1),), (1, 1, 0)),
    ],
)
def test_impossible_stems_are_trainers_errors(stem, patch):
    with pytest.raises(TrainerError):
        Student(small("bad", stem=stem, patch=patch, embed_dim=8, depth=1, num_heads=2))


def test_weights_from_a_file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.manual_seed(1)
    source = create("vit_tiny_patch16_224")
    torch.save(source.state_dict(), path)
    settings = ModelSettings("vit_tiny_patch16_224", {"depth": 1}, checkpoint=str(path))
    loaded = create_vit(settings, 32, 3, 10)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_local_checkpoint_is_fitted_as_pretrained_weights_are(tmp_path, ending):
    """timm's own way for pretrained weights is the oracle: it is given the same weights."""
    name, path = "vit_tiny_patch16_224", tmp_path / f"weights.{ending}"
    torch.manual_seed(1)
    state = timm.create_model(name, depth=1).state_dict()
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    for size, channels, classes in ((96, 3, 5), (64, 1, 1000), (224, 3, 1000)):
        torch.manual_seed(2)
        loaded = create_vit(ModelSettings(name, {"depth": 1}, checkpoint=str(path)), size, channels, classes)
        torch.manual_seed(2)
        overlay = {"state_dict": dict(state), "num_classes": 1000}
        sizes = {"img_size": size, "in_chans": channels, "num_classes": classes}
        wanted = timm.create_model(name, True, pretrained_cfg_overlay=overlay, depth=1, **sizes)
        ours, theirs = loaded.state_dict(), wanted.state_dict()
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert torch.equal(ours["head.weight"], state["head.weight"])


def test_a_teachers_local_checkpoint_is_fitted(tmp_path):
    path = tmp_path / "weights.pth"
    source = timm.create_model("resnet18", num_classes=1000).state_dict()
    torch.save({"state_dict": source}, path)
    net = create_timm(ModelSettings("resnet18", checkpoint=str(path)), num_classes=4, in_chans=1)
    assert net.fc.weight.shape == (4, 512)
    assert torch.allclose(net.conv1.weight, source["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(net.layer4[1].conv2.weight, source["layer4.1.conv2.weight"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"img_size": 64}, "options.img_size = 64: leave it out, data.size gives it"),
        ({"in_chans": 0}, "options.in_chans = 0: leave it out, data.channels gives it"),
        ({"num_classes": 3}, "options.num_classes = 3: leave it out, [data] gives it"),
        ({"depth": 0}, "options.depth = 0: vit_tiny_patch16_224: blocks: there are none"),
        ({"depth": -1}, "options.depth = -1: "),
        ({"embed_dim": 0}, "options.embed_dim = 0: "),
        ({"num_heads": 0}, "options.num_heads = 0: "),
        ({"patch_size": 0}, "options.patch_size = 0: "),
        ({"mlp_ratio": -1}, "options.mlp_ratio = -1: "),
        ({"embed_with": 3}, "options.embed_with = 3: "),
        ({"embed_dim": "wide"}, "options.embed_dim = 'wide': "),
        ({"qk_norm": True}, "options.qk_norm = True: vit_tiny_patch16_224: blocks.0.attn.q_norm: LayerNorm has no"),
        ({"depth": 1, "reg_tokens": 4}, "options.reg_tokens = 4: vit_tiny_patch16_224: pool: token over 5 prefix"),
    ],
)
def test_options_at_fault_are_named(options, words):
    with pytest.raises(TrainerError, match=f"^{re.escape(words)}"):
        check_settings(ModelSettings("vit_tiny_patch16_224", options), 32, 3)


def test_settings_that_fit_are_not_refused():
    check_settings(ModelSettings("vit_tiny_patch16_224", {"depth": 1}, pretrained=True), 32, 3)
    check_settings(ModelSettings("vit_tiny_patch16_224", {}, checkpoint="none.pth"), 32, 3)
    with pytest.raises(TrainerError, match=r"^resnet18: "):
        check_settings(ModelSettings("resnet18"), 32, 3)


def test_missing_and_odd_weights_are_named(tmp_path):
    with pytest.raises(TrainerError, match=r"none\.pth: checkpoint not found"):
        create_vit(ModelSettings("vit_tiny_patch16_224", checkpoint=str(tmp_path / "none.pth")), 32, 3, 10)
    path = tmp_path / "text.pth"
    path.write_text("text")
    with pytest.raises(TrainerError, match="vit_tiny_patch16_224: "):
        create_vit(ModelSettings("vit_tiny_patch16_224", checkpoint=str(path)), 32, 3, 10)
    other = tmp_path / "other.pth"
    torch.save(create("vit_tiny_patch16_224", {"embed_dim": 96}).state_dict(), other)
    with pytest.raises(TrainerError, match="vit_tiny_patch16_224: "):
        create_vit(ModelSettings("vit_tiny_patch16_224", {"depth": 1}, checkpoint=str(other)), 32, 3, 10)


def test_pixels():
    pixels = Pixels((0.5,), (0.25,))
    assert pixels.normalize(torch.tensor([[[[0], [255]]]], dtype=torch.uint8)).tolist() == [[[[-2.0, 2.0]]]]
    for mean, std in (((0.5, 0.5), (1.0, 1.0)), ((0.5,), ()), ((), ())):
        with pytest.raises(TrainerError, match="mean and std need one or three numbers each"):
            Pixels(mean, std)
    with pytest.raises(TrainerError, match="std must be above 0"):
        Pixels((0.5,), (0.0,))


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings("vit_tiny_patch16_224", {"embed_dim": 12, "depth": 1, "num_heads": 2}, [[8, 3, 2, 1]], [3, 2, 1]),
        ModelSettings("deit3_small_patch16_224", {"patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2}),
    ],
)
def test_positions_are_resampled_for_other_sizes_alone(settings):
    """Against timm's own model for its own size, and against its positions resampled by hand for another."""
    vit = create_vit(settings, 16, 3, 5).eval()
    pictures = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        vit.pos_embed.normal_()
        tokens = vit.patch_embed.proj(getattr(vit.patch_embed, "backbone", lambda x: x)(pictures))
        rows = tokens.flatten(2).transpose(1, 2)
        prefix = 0 if vit.no_embed_class else 1
        positions = resample_abs_pos_embed(vit.pos_embed, (6, 6), (4, 4), num_prefix_tokens=prefix)
        if prefix:
            x = torch.cat([vit.cls_token.expand(2, -1, -1), rows], 1) + positions
        else:
            x = torch.cat([vit.cls_token.expand(2, -1, -1), rows + positions], 1)
        expected = vit.head(vit.norm(vit.blocks(x))[:, 0])
        assert torch.equal(vit(pictures), expected)
        own = vit(pictures[..., :16, :16])
        embed = vit.patch_embed
        vit.dynamic_img_size, embed.flatten, embed.output_fmt = False, True, Format.NCHW
        assert torch.equal(vit(pictures[..., :16, :16]), own)
