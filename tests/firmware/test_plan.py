# SPDX-License-Identifier: MIT
"""plan.py: valid layouts for any network and budget, and models that give the same logits with all of them."""

import re
from itertools import combinations, product

import ftervit
import pytest
import ternary
from ftervit import plan as plans
from ftervit.modelfile import ModelFile, convolutions, grids
from ftervit.plan import Plan

from tests.firmware.test_layers import own_buffer, parts, some_picture
from tests.tiny import calibrated, small
from trainer.modelfile.export import export

KB = 1024
BUFFERS = {"stream", "scratch", "mixed", "normed", "qkv", "branch", "hidden"}
EXTERNAL = ("qkv", "mixed", "stream")


def architecture(img_size, channels, width, depth, heads, hidden, patch, classes, stem=()):
    """Sizes as a model file has them; patch: size, stride, padding."""
    sizes = {"img_size": img_size, "in_chans": channels, "stem": list(stem), "embed_dim": width, "depth": depth}
    sizes |= {"num_heads": heads, "mlp_hidden": hidden, "num_classes": classes}
    return sizes | dict(zip(("patch_size", "patch_stride", "patch_padding"), patch, strict=True))


ARCHITECTURES = {
    "deit3_small_patch16_224": architecture(224, 3, 384, 12, 6, 1536, (16, 16, 0), 1000),
    "deit3_small_patch16_384": architecture(384, 3, 384, 12, 6, 1536, (16, 16, 0), 1000),
    "deit_tiny_patch16_224": architecture(224, 3, 192, 12, 3, 768, (16, 16, 0), 1000),
    "fashion_mnist": architecture(28, 1, 96, 4, 3, 384, (3, 2, 1), 10, [[32, 3, 2, 1], [64, 3, 1, 1], [96, 3, 2, 1]]),
    "odd": architecture(28, 1, 33, 2, 3, 17, (14, 14, 0), 7),
    "one token": architecture(5, 1, 1, 1, 1, 1, (5, 5, 0), 1),
    "wide head": architecture(12, 3, 1024, 1, 1, 16, (4, 4, 0), 2),
    "many tokens": architecture(90, 1, 16, 1, 2, 5, (2, 2, 0), 3),
    "large hidden": architecture(16, 1, 48, 2, 3, 4032, (4, 4, 0), 3),
}
BUDGETS = (128 * KB, 192 * KB, 256 * KB)


@pytest.fixture(params=[1, 2])
def cores(request):
    """Scratch depends on the number of cores in use."""
    assert ternary.cores(request.param) == request.param
    yield request.param
    ternary.cores(1)


def least(sizes, piece):
    """The smallest budget that Plan accepts, from its refusal; None if no budget suffices with such small pieces."""
    if piece and largest_scratch(Plan(sizes)) > piece:
        with pytest.raises(MemoryError, match=rf"^activations: scratch needs .* pieces have at most {piece}$"):
            Plan(sizes, 1 << 30, piece)
        return None
    with pytest.raises(MemoryError, match=r"^activations: need at least \d+ bytes, 1 are given") as caught:
        Plan(sizes, 1, piece)
    return int(re.search(r"at least (\d+)", str(caught.value))[1])


def largest_scratch(plan):
    """The largest scratch of any layer, in bytes."""
    sizes, inputs, channels = plan.sizes, [plan.width, plan.hidden], plan.sizes["in_chans"]
    for _, kernel, _, _, made in convolutions(sizes):
        inputs.append(kernel * kernel * channels)
        channels = made
    head_width = plan.width // sizes["num_heads"]
    most = max(map(ternary.linear_scratch, inputs))
    return max(most, ternary.layernorm_scratch(plan.width), ternary.attention_scratch(plan.tokens, head_width))


def check(plan):
    """Check what layers rely on: buffers are large enough, aligned, disjoint while in use, and within limits."""
    places, tokens, width, rows = plan.places, plan.tokens, plan.width, plan.rows
    assert set(places) == BUFFERS and 1 <= rows <= tokens
    assert plan.whole or plan.heads == plan.sizes["num_heads"]
    needed = {
        "stream": 2 * tokens * width,
        "scratch": largest_scratch(plan),
        "mixed": tokens * width,
        "normed": (tokens if plan.whole else rows) * width,
        "qkv": 3 * tokens * width * plan.heads // plan.sizes["num_heads"],
        "branch": rows * width,
        "hidden": rows * plan.hidden,
    }
    for name, (number, offset, size) in places.items():
        assert size >= needed[name] and offset % 16 == 0
        assert number is None or offset + size <= plan.pieces[number]
        assert number is not None or name in EXTERNAL
    lasting = {"stream", "mixed", "scratch"}
    for phase in (lasting | {"normed", "qkv"}, lasting | {"hidden", "branch"}):
        for (a, first, size), (b, second, other) in combinations([places[name] for name in phase], 2):
            assert a is None or a != b or first + size <= second or second + other <= first
    if plan.piece is not None:
        assert max(plan.pieces) <= plan.piece
    if plan.sram is not None:
        assert sum(plan.pieces) + plan.logits <= plan.sram
    for (_, kernel, _, _, _), (_, channels), (side, _), count in zip(
        convolutions(plan.sizes), grids(plan.sizes), grids(plan.sizes)[1:], plan.patch_rows, strict=False
    ):
        assert 1 <= count <= side
        fits = count * side * kernel * kernel * channels <= places["hidden"][2]
        assert count == side if plan.sram is None else count == 1 or fits


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("piece", [100 * KB, None])
def test_layouts(name, piece, cores):
    """Budgets of boards, and budgets from the smallest possible to all that the network can use."""
    sizes = ARCHITECTURES[name]
    start = least(sizes, piece)
    whole = Plan(sizes)
    check(whole)
    if start is None:
        return
    end = sum(whole.pieces) + whole.logits + 64 * KB
    assert whole.rows == whole.tokens and whole.external_bytes() == 0
    for sram in {*BUDGETS, *range(start, end, max(1, (end - start) // 30))}:
        if sram < start:
            continue
        plan = Plan(sizes, sram, piece)
        check(plan)
        assert (plan.sram, plan.piece) == (sram, piece)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_patches_are_halved_until_the_most_are_one_row(name):
    plan = Plan(ARCHITECTURES[name])
    sizes = [plan.patch_bytes]
    while plan.halve_patches():
        sizes.append(plan.patch_bytes)
    rows = zip(convolutions(plan.sizes), grids(plan.sizes), grids(plan.sizes)[1:], plan.patch_rows, strict=False)
    bytes_of = [count * side * kernel**2 * channels for (_, kernel, _, _, _), (_, channels), (side, _), count in rows]
    assert plan.patch_bytes == max(bytes_of) and plan.patch_rows[bytes_of.index(max(bytes_of))] == 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("piece", [100 * KB, 64 * KB, None])
def test_what_does_not_fit_is_refused_with_what_would(name, piece, cores):
    """The bytes that a refusal names are enough, and one less is not."""
    sizes = ARCHITECTURES[name]
    needed = least(sizes, piece)
    if needed is None:
        return
    check(Plan(sizes, needed, piece))
    of = f" in pieces of at most {piece}" if piece else ""
    with pytest.raises(MemoryError, match=f"^activations: need at least {needed} bytes, {needed - 1} are given{of}$"):
        Plan(sizes, needed - 1, piece)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("piece", [100 * KB, None])
def test_a_larger_budget_never_costs_more(name, piece):
    sizes = ARCHITECTURES[name]
    start, whole = least(sizes, piece), Plan(sizes)
    if start is None:
        return
    end = sum(whole.pieces) + whole.logits + 64 * KB
    costs = [Plan(sizes, sram, piece).cycles for sram in range(start, end, max(1, (end - start) // 100))]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == whole.cycles or piece is not None
    assert len(set(costs)) > 1


def test_pieces_that_a_buffer_exceeds_are_refused():
    sizes = ARCHITECTURES["large hidden"]
    for piece in (round_up(largest_scratch(Plan(sizes))) - 1, 1000, 0):
        with pytest.raises(MemoryError, match=f"^activations: scratch needs at least .*, pieces have at most {piece}$"):
            Plan(sizes, 1 << 30, piece)


@pytest.mark.parametrize("sram", BUDGETS)
def test_deit_small_fits_a_board(sram):
    """Budgets of boards, in pieces of 100 KB; the printed plan is complete."""
    plan = Plan(ARCHITECTURES["deit3_small_patch16_224"], sram, 100 * KB)
    text = str(plan)
    for name, (number, offset, size) in plan.places.items():
        where = "PSRAM" if number is None else f"SRAM, piece {number} at {offset}"
        assert re.search(rf"^{name} +{size}  {where}$", text, re.MULTILINE)
    inside, external = sum(plan.pieces) + plan.logits, plan.external_bytes()
    assert f"SRAM: {inside} of {sram} bytes" in text and f"PSRAM: {external} bytes" in text
    passes = -(-plan.tokens // plan.rows)
    assert f"197 tokens, {plan.rows} at a time" in text and f"in {passes} passes" in text
    assert f"{plan.heads} of 6 heads" in text and f"{plan.cycles:.0f}"[:4] in text


# Heads that can go one by one, and a patch embedding without padding: 26 tokens in blocks of any size.
GROUPED = small("grouped", img_size=20, patch_size=4, embed_dim=64, depth=2, num_heads=4, mlp_ratio=1.5)
# Patches that overlap, without padding, in the stem, too.
OVERLAPPING = small(
    "overlapping",
    img_size=24,
    channels=3,
    stem=((8, 4, 3, 0),),
    patch=(3, 2, 0),
    embed_dim=48,
    depth=1,
    num_heads=3,
    mlp_ratio=2,
)


def exported(blueprint, tmp_path_factory):
    """The model file of an untrained student."""
    path = tmp_path_factory.mktemp("plan") / f"{blueprint.name}.safetensors"
    export(calibrated(blueprint), path)
    return path


@pytest.fixture(scope="module")
def grouped_model(tmp_path_factory):
    """A model file with more possible plans than most."""
    return exported(GROUPED, tmp_path_factory)


@pytest.fixture(scope="module")
def overlapping_model(tmp_path_factory):
    """A model file with overlapping convolutions."""
    return exported(OVERLAPPING, tmp_path_factory)


class Forced(Plan):
    """A plan of a given kind, whatever its cost: (whole, heads, rows, buffers in PSRAM)."""

    wanted = None

    def _try(self, whole, heads, in_psram):
        wanted_whole, wanted_heads, rows, external = self.wanted
        if (whole, heads, set(in_psram)) == (wanted_whole, wanted_heads, set(external)):
            self.rows, self.heads, self.whole, self.cycles = rows, heads, whole, 0
            self.places, self.pieces = self._pack(self._needs(whole, heads, rows), in_psram)


def forced(path, monkeypatch, wanted):
    """A model that follows a plan of this kind."""
    monkeypatch.setattr(Forced, "wanted", wanted)
    monkeypatch.setattr(plans, "Plan", Forced)
    model = ftervit.VisionTransformer.load(str(path), sram=1 << 30)
    monkeypatch.undo()
    assert (model.plan.whole, model.plan.heads, model.plan.rows) == wanted[:3]
    return model


MODELS = ("odd_model", "stem_model", "colour_model", "scaled_model", "grouped_model", "overlapping_model")


@pytest.fixture(params=MODELS)
def path(request):
    """A small model's file."""
    return request.getfixturevalue(request.param)


def expected_of(path):
    """A picture and its logits, layer by layer without a plan's buffers."""
    model = ftervit.VisionTransformer.load(str(path))
    picture = some_picture(model)
    x = model.embed(picture)
    for block in model.blocks:
        x = block(x)
    return picture, list(model.head(model.norm(x[: model.embed_dim])))


def ways(path):
    """All kinds of plans, with some numbers of rows."""
    plan = Plan(ModelFile(str(path)).architecture)
    rows = sorted({1, 2, plan.tokens // 2, plan.tokens - 1, plan.tokens} - {0})
    external = [names for count in range(4) for names in combinations(EXTERNAL, count)]
    return [(*way, count, names) for way, count, names in product(plan._ways(), rows, external)]


def test_every_kind_of_plan_gives_the_same_logits(path, monkeypatch):
    picture, expected = expected_of(path)
    seen = set()
    for wanted in ways(path):
        model = forced(path, monkeypatch, wanted)
        seen.add((model.plan.heads, *model.plan.patch_rows))
        assert list(model(picture)) == expected, wanted
        assert list(model(picture)) == expected, wanted
    heads, *patch_rows = map(set, zip(*seen, strict=True))
    if path.stem == "grouped":
        assert heads == {1, 2, 4} and patch_rows[0] >= {1, 2, 5}
    if path.stem == "overlapping":
        assert all(min(rows) == 1 and len(rows) > 1 for rows in patch_rows)


@pytest.mark.parametrize("piece", [None, "tight"])
def test_every_budget_gives_the_same_logits(path, piece):
    picture, expected = expected_of(path)
    sizes = ModelFile(str(path)).architecture
    piece = piece and round_up(largest_scratch(Plan(sizes)))
    start, whole = least(sizes, piece), Plan(sizes)
    end = sum(whole.pieces) + whole.logits
    kinds = set()
    for sram in range(start, end + 200, max(1, (end - start) // 12)):
        model = ftervit.VisionTransformer.load(str(path), sram=sram, piece=piece)
        assert list(model(picture)) == expected, str(model.plan)
        kinds.add((model.plan.rows, model.plan.external_bytes()))
    assert len(kinds) > 1


def round_up(size):
    """The next multiple of 16."""
    return -(-size // 16) * 16


def plain_bytes(part):
    """The same with a bytearray, which is not a buffer of int8."""
    return lambda x, out=None, *rest: bytearray(part(x))


def test_replaced_parts_under_plans(path, monkeypatch):
    """Every part wrapped in a function, one at a time and all together; a user's softmax."""
    picture, expected = expected_of(path)
    for wanted in ways(path)[:: max(1, len(ways(path)) // 8)]:
        model = forced(path, monkeypatch, wanted)
        replaced = list(parts(model))
        for owner, name in replaced:
            part = owner[name]
            for wrapped in (own_buffer, plain_bytes) if name != "head" else (own_buffer,):
                owner[name] = wrapped(part)
                assert list(model(picture)) == expected, (wanted, name, wrapped)
            owner[name] = part
        for block in model.blocks:
            softmax = block.attn.softmax
            block.attn.softmax = lambda scores, tokens, softmax=softmax: softmax(scores, tokens)
        assert list(model(picture)) == expected, wanted
        for owner, name in replaced:
            owner[name] = own_buffer(owner[name])
        assert list(model(picture)) == expected, wanted


def test_subclasses_under_plans(grouped_model, monkeypatch):
    """A subclass is called, not bypassed, also in plans with heads one by one."""
    picture, expected = expected_of(grouped_model)
    for whole, heads in ((False, 4), (True, 4), (True, 1)):
        model = forced(grouped_model, monkeypatch, (whole, heads, 5, ("qkv",)))
        calls = []

        class Watched(ftervit.Attention):
            def scores(self, qkv, tokens, head, calls=calls):
                calls.append(head)
                return super().scores(qkv, tokens, head)

        class Linear(ftervit.TernaryBitLinear):
            def __call__(self, x, out=None, calls=calls):
                calls.append("qkv")
                return super().__call__(x, out)

        attn = model.blocks[0].attn
        numbers = attn.heads, attn.width, attn.score_shift, attn.value_gain
        model.blocks[0].attn = Watched(attn.qkv, attn.softmax, attn.proj, *numbers)
        model.blocks[1].attn.qkv = Linear.like(model.blocks[1].attn.qkv)
        assert list(model(picture)) == expected
        assert calls[:4] == [0, 1, 2, 3] and calls[4:] == ["qkv"] * (1 if whole else 6)


def test_two_models_in_turn(grouped_model, odd_model):
    """They share scratch; a model with a budget does not affect one without, nor the other way round."""
    paths = [(grouped_model, 64 * KB), (odd_model, None), (grouped_model, None), (odd_model, 16 * KB)]
    models = [ftervit.VisionTransformer.load(str(path), sram=sram) for path, sram in paths]
    wanted = [expected_of(path) for path, _ in paths]
    for _ in range(2):
        for model, (picture, expected) in zip(models, wanted, strict=True):
            assert list(model(picture)) == expected


def test_a_budget_on_a_board(board):
    """The shipped model, its activations in 48 KB."""
    script = """
import ternary
from ftervit import VisionTransformer, read_image
logits = []
for options in ({}, {"sram": 48 * 1024, "piece": 24 * 1024}):
    model = VisionTransformer.load("models/fashion_mnist.safetensors", **options)
    logits.append(list(model(model.preprocess(read_image("images/8_bag.pgm")))))
print(logits[0] == logits[1], len(logits[0]))
print(model.plan)
try:
    VisionTransformer.load("models/fashion_mnist.safetensors", sram=1000)
except MemoryError as error:
    print(error)
"""
    result = board.mpremote("exec", script)
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "True 10" and any(line.startswith("SRAM: ") and "of 49152" in line for line in lines)
    assert re.fullmatch(r"activations: need at least \d+ bytes, 1000 are given", lines[-1])
