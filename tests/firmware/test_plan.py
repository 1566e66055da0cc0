# SPDX-License-Identifier: MIT
"""plan.py: valid layouts for any network and budget, and models that give the same logits with all of them."""

import gc
import re
import tomllib
from itertools import combinations, product
from random import Random

import ftervit
import pytest
import ternary
from ftervit import layers, layout
from ftervit import plan as plans
from ftervit.architecture import MAX_VALUES, architecture_problem, convolutions, grids, padded
from ftervit.estimate import seconds
from ftervit.modelfile import ModelFile
from ftervit.plan import RESERVE, Plan, Work

from host_sim.chip import curve
from host_sim.random_models import assembled
from tests.conftest import ROOT
from tests.firmware.chip_heap import BOOT, WIFI, ChipHeap
from tests.firmware.chip_runner import ChipRunner
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


def largest_scratch(plan, least=False):
    """The largest scratch of any layer, in bytes: the best for it, or the least."""
    sizes, inputs, channels = plan.sizes, [plan.width], plan.sizes["in_chans"]
    for _, kernel, _, _, made in convolutions(sizes):
        inputs.append(kernel * kernel * channels)
        channels = made
    head_width = plan.width // sizes["num_heads"]
    most = max(ternary.layernorm_scratch(plan.width), *map(ternary.linear_scratch, inputs))
    linear = ternary.linear_scratch_least if least else ternary.linear_scratch
    attention = ternary.attention_scratch_least if least else ternary.attention_scratch
    return max(most, linear(plan.hidden), attention(plan.tokens, head_width))


def check(plan):
    """Check what layers rely on: buffers are large enough, aligned, disjoint while in use, and within limits."""
    places, tokens, width, rows = plan.places, plan.tokens, plan.width, plan.rows
    made = [side * side * channels for side, channels in grids(plan.sizes)[1:-1]]
    maps = {f"map{i}": max(made[i::2]) for i in (0, 1) if made[i::2]}
    limited, heads = plan.regions is not None, plan.sizes["num_heads"]
    head_width = width // heads
    assert set(places) == (BUFFERS | {"patches"} | set(maps) if limited else BUFFERS) and 1 <= rows <= tokens
    assert plan.whole or plan.heads == plan.sizes["num_heads"]
    needed = {
        "stream": 2 * tokens * width,
        "scratch": largest_scratch(plan, plan.scratch < plan.scratch_most),
        "mixed": tokens * width,
        "normed": (tokens if plan.whole else rows) * width,
        "qkv": tokens * head_width * (3 if plan.heads == heads else 2) * plan.heads,
        "branch": rows * width,
        "hidden": rows * plan.hidden,
        "patches": plan.patch_bytes,
        **maps,
    }
    for name, (number, offset, size) in places.items():
        assert size >= needed[name] and offset % 16 == 0
        assert number is None or offset + size <= plan.pieces[number]
        assert number is not None or limited
    lasting = {"stream", "mixed", "scratch"}
    # The stream is written when patches and maps are done with, but it is a piece of its own.
    for phase in (lasting | {"normed", "qkv"}, lasting | {"hidden", "branch"}, lasting | {"patches"} | set(maps)):
        for (a, first, size), (b, second, other) in combinations([places[name] for name in phase & set(places)], 2):
            assert a is None or a != b or first + size <= second or second + other <= first
    stream = places["stream"][0]
    assert stream is None or all(number != stream for name, (number, *_) in places.items() if name != "stream")
    if limited:
        assert sum(plan.pieces) <= sum(plan.regions) and max(plan.pieces, default=0) <= max(plan.regions, default=0)
    for (_, kernel, _, _, outputs), (_, channels), (side, _), count in zip(
        convolutions(plan.sizes), grids(plan.sizes), grids(plan.sizes)[1:], plan.patch_rows, strict=False
    ):
        line = side * padded(kernel * kernel * channels)
        # Kernels find patches of whole vectors in the picture, so that few are cut out.
        most = min(side, max(1, 16 * KB // line)) if channels % 16 == outputs % 16 == 0 else side
        assert count == most if not limited else 1 <= count <= most
        assert count * line <= plan.patch_bytes


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("piece", [100 * KB, 10 * KB, None])
def test_layouts(name, piece, cores):
    """Budgets of a board, and from nothing to all that the network can use."""
    sizes = ARCHITECTURES[name]
    whole = Plan(sizes)
    check(whole)
    end = sum(whole.pieces) + 64 * KB
    assert whole.rows == whole.tokens and whole.external_bytes() == 0 and whole.cores == cores
    for sram in {*BUDGETS, *range(0, end, max(1, end // 30))}:
        plan = Plan(sizes, sram, piece)
        check(plan)
        assert sum(plan.pieces) <= sram and (piece is None or max(plan.pieces, default=0) <= piece)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_patches_are_halved_until_the_most_are_one_row(name):
    plan = Plan(ARCHITECTURES[name])
    sizes = [plan.patch_bytes]
    while plan.halve_patches():
        sizes.append(plan.patch_bytes)
    rows = zip(convolutions(plan.sizes), grids(plan.sizes), grids(plan.sizes)[1:], plan.patch_rows, strict=False)
    bytes_of = [
        count * side * padded(kernel**2 * channels) for (_, kernel, _, _, _), (_, channels), (side, _), count in rows
    ]
    assert plan.patch_bytes == max(bytes_of) and plan.patch_rows[bytes_of.index(max(bytes_of))] == 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("piece", [100 * KB, None])
def test_a_larger_budget_never_costs_more(name, piece):
    sizes = ARCHITECTURES[name]
    whole = Plan(sizes)
    end = sum(whole.pieces) + 64 * KB
    costs = [Plan(sizes, sram, piece).cycles for sram in range(0, end, max(1, end // 100))]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == whole.cycles or piece is not None
    assert len(set(costs)) > 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_internal_memory_everything_lies_in_psram(name, cores):
    for plan in (
        Plan(ARCHITECTURES[name], 0),
        Plan(ARCHITECTURES[name], free=[]),
        Plan(ARCHITECTURES[name], free=[5000]),
    ):
        check(plan)
        assert not any(plan.pieces) and plan.external_bytes() == plan.activation_bytes() > 0
        assert all(line.endswith("PSRAM") for line in str(plan).splitlines()[1 : 1 + len(plan.places)])


@pytest.mark.parametrize("sram", BUDGETS)
def test_deit_small_fits_a_board(sram):
    """Budgets of boards, in pieces of 100 KB; the printed plan is complete."""
    plan = Plan(ARCHITECTURES["deit3_small_patch16_224"], sram, 100 * KB)
    text = str(plan)
    for name, (number, offset, size) in plan.places.items():
        where = "PSRAM" if number is None else f"SRAM, piece {number} at {offset}"
        assert re.search(rf"^{name} +{size}  {where}$", text, re.MULTILINE)
    inside, external = sum(plan.pieces), plan.external_bytes()
    assert f"SRAM: {inside} of {sram} bytes" in text and f"PSRAM: {external} bytes" in text
    passes = -(-plan.tokens // plan.rows)
    assert f"197 tokens, {plan.rows} at a time" in text and f"in {passes} passes" in text
    assert f"{plan.heads} of 6 heads" in text and f"about {1000 * seconds(plan):.1f} ms" in text


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


class Forced(layout.Search):
    """A layout of a wanted kind, whatever it costs: (whole, heads, rows, what lies in PSRAM)."""

    wanted = None

    def attempt(self, whole, heads, in_psram):
        wanted_whole, wanted_heads, rows, external = self.wanted
        plan = self.plan
        if (whole, heads, set(in_psram)) == (wanted_whole, wanted_heads, set(external)):
            plan.rows, plan.heads, plan.whole, plan.cycles = rows, heads, whole, 0
            plan.places, plan.pieces, room = self.pack(whole, heads, rows, in_psram)
            # For patches and maps no more than for `hidden`, and a line of patches.
            most = max(padded(rows * plan.hidden), *(padded(side * k) for k, _, side in plan.convolutions()))
            self.room = [(piece, used, min(size, most)) for piece, used, size in room]

    def stem(self, outside, inside, patches_inside):
        found = super().stem(outside, inside, patches_inside)
        return found and (found[0] + (0 if patches_inside else 1e9), *found[1:])


def forced(path, monkeypatch, wanted):
    """A model that follows a plan of this kind."""
    monkeypatch.setattr(Forced, "wanted", wanted)
    monkeypatch.setattr(layout, "Search", Forced)
    model = ftervit.VisionTransformer.load(str(path), sram=1 << 29)
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
        block.scratch, block.mlp.scratch = layers.Scratch(), layers.Scratch()
        x = block(x)
    return picture, list(model.head(model.norm(x[: model.embed_dim])))


def ways(path):
    """All kinds of plans, with some numbers of rows."""
    plan = Plan(ModelFile(str(path)).architecture, sram=0)
    rows = sorted({1, 2, plan.tokens // 2, plan.tokens - 1, plan.tokens} - {0})
    external = [names for count in range(4) for names in combinations(EXTERNAL, count)]
    external += [("hidden",), ("normed", "scratch"), ("branch", "hidden"), layout.EXTERNAL]
    return [
        (*way, count, names)
        for way, count, names in product(layout.Search(plan, 0, None, 0, None).ways(), rows, external)
    ]


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


@pytest.mark.parametrize("piece", [None, 3000])
def test_every_budget_gives_the_same_logits(path, piece):
    picture, expected = expected_of(path)
    whole = Plan(ModelFile(str(path)).architecture)
    end = sum(whole.pieces)
    kinds = set()
    for sram in range(0, end + whole.patch_bytes, max(1, (end + whole.patch_bytes) // 12)):
        model = ftervit.VisionTransformer.load(str(path), sram=sram, piece=piece)
        assert list(model(picture)) == expected, str(model.plan)
        kinds.add((model.plan.rows, model.plan.external_bytes()))
    assert len(kinds) > 1


@pytest.mark.parametrize("target", ["host", "lx7"])
def test_less_scratch_gives_the_same_logits(tmp_path, target, cores):
    """A wide MLP, whose weights are decoded slice by slice, and attention to fewer rows at a time."""
    sizes, path = curve.network(8, 64, 1, heads=2, ratio=20, patch=4, classes=5), tmp_path / "wide.safetensors"
    path.write_bytes(assembled(Random(1), sizes))
    picture, expected = expected_of(path)
    ternary.use(target)
    ternary.cores(cores)
    try:
        tight = 0
        for sram in range(0, sum(Plan(sizes).pieces), 6 * KB):
            model = ftervit.VisionTransformer.load(str(path), sram=sram)
            tight += model.plan.scratch < model.plan.scratch_most
            assert list(model(picture)) == expected, str(model.plan)
        assert tight > 1
    finally:
        ternary.use("host")


def plain_bytes(part):
    """The same with a bytearray, which is not a buffer of int8."""
    return lambda x, out: bytearray(part(x))


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
            block.attn.softmax = lambda scores, out=None, softmax=softmax: softmax(scores)
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


def my_pictures():
    """The network of trainer/configs/from_nothing.toml, untrained, for three classes."""
    config = tomllib.loads((ROOT / "trainer" / "configs" / "from_nothing.toml").read_text())
    data, model = config["data"], config["model"]
    sizes = {"img_size": data["size"], "channels": data["channels"], "classes": 3}
    return small("my_pictures", model["name"], stem=model["stem"], patch=model["patch"], **sizes, **model["options"])


@pytest.fixture(scope="module")
def chip_models(shipped, tmp_path_factory):
    """Files of the shipped model and of my_pictures.toml's network."""
    return {"fashion_mnist": shipped, "my_pictures": exported(my_pictures(), tmp_path_factory)}


@pytest.fixture(scope="module")
def networks(chip_models):
    """Name -> sizes of the networks that a chip is for."""
    found = {name: ModelFile(str(path)).architecture for name, path in chip_models.items()}
    assert (found["my_pictures"]["img_size"], len(found["my_pictures"]["stem"])) == (64, 3)
    return found | {"deit3_small_patch16_224": ARCHITECTURES["deit3_small_patch16_224"]}


@pytest.fixture
def chip(monkeypatch):
    """Puts the chip's memory after its start in place of this machine's; Wi-Fi has taken 60 KB of it if wanted."""

    def start(wifi=False, **options):
        heap = ChipHeap()
        for size in WIFI if wifi else ():
            assert heap.malloc(size)
        runner = ChipRunner(heap, **options)
        monkeypatch.setattr(ternary, "runner", runner)
        return runner

    return start


def test_the_chips_memory(chip):
    """What `ternary.internal()` tells is what a board has after boot, alone and beside Wi-Fi."""
    heap = chip()
    assert ternary.internal() == heap.internal() == [largest for _, largest in BOOT]
    assert 59 * KB < sum(WIFI) <= 60 * KB
    heap = chip(wifi=True)
    assert 70 * KB < heap.chip.largest_free_block() < 100 * KB


@pytest.mark.parametrize("wifi", [False, True])
@pytest.mark.parametrize("name", ["fashion_mnist", "my_pictures", "deit3_small_patch16_224"])
def test_networks_of_a_chip(name, wifi, networks, chip, cores):
    """What is planned can be had, and leaves 64 KB in one block."""
    heap = chip(wifi)
    before, psram = heap.inside(), heap.psram
    plan = Plan(networks[name])
    check(plan)
    planned = dict(plan.places)
    work = Work(plan)
    assert plan.places == planned and plan.leave == RESERVE == 64 * KB
    assert heap.chip.largest_free_block() >= 64 * KB
    overhead = heap.inside() - before - sum(plan.pieces)
    assert 0 <= overhead <= layout.OVERHEAD * len(plan.pieces)
    assert psram - heap.psram == plan.external_bytes()
    assert sum(plan.pieces) + plan.external_bytes() == plan.activation_bytes()
    if name != "deit3_small_patch16_224":
        # Blocks have all their buffers in internal memory, and one pass over all tokens.
        assert plan.rows == plan.tokens
        outside = {buffer for buffer in BUFFERS if plan.places[buffer][0] is None}
        assert not outside or (outside == {"scratch"} and wifi and plan.scratch > max(plan.regions))
        assert wifi or plan.external_bytes() == 0
    # Whatever may be there, beside Wi-Fi's or not.
    assert f"for {cores} core" in str(plan) and "65536 bytes of SRAM stay free in one block" in str(plan)
    del work
    gc.collect()
    assert heap.inside() == before


def test_docs_have_these_numbers(networks, chip):
    ternary.cores(2)
    try:
        lines = (ROOT / "docs" / "numbers.md").read_text().splitlines()
        others = [ROOT / "firmware" / "models" / f"{name}.safetensors" for name in ("cifar10", "eyes")]
        shipped = {path.stem: ModelFile(str(path)).architecture for path in others}
        for name, sizes in (networks | shipped).items():
            chip()
            alone = Plan(sizes)
            chip(wifi=True)
            beside = Plan(sizes)
            (line,) = [line for line in lines if re.match(rf"\| {name}\b[^|]*\| [\d,]+ \| [\d,]+ \| [\d,]+ and", line)]
            found = [int(number.replace(",", "")) for number in re.findall(r"[\d,]{1,9}", line.split("|", 2)[2])]
            expected = [number for plan in (alone, beside) for number in (sum(plan.pieces), plan.external_bytes())]
            assert found[:4] == expected and f"at most {sum(alone.regions):,}" in "\n".join(lines), line
    finally:
        ternary.cores(1)


@pytest.mark.parametrize("name", ["fashion_mnist", "my_pictures", "deit3_small_patch16_224"])
def test_any_state_of_the_chips_memory(name, networks, monkeypatch, cores):
    """Plans hold, and leave what they say, whatever is free where."""
    rng, sizes, spilled = Random(5), networks[name], 0
    for _ in range(60):
        largest = [rng.randrange(16, 160 * KB) for _ in range(rng.randint(1, 4))]
        regions = [(size + rng.choice((4, rng.randrange(4, 40 * KB))), size) for size in largest]
        reserve = rng.choice((0, 10_000, 64 * KB, 64 * KB, 100 * KB))
        heap = ChipRunner(ChipHeap(regions))
        monkeypatch.setattr(ternary, "runner", heap)
        before = heap.chip.largest_free_block()
        plan = Plan(sizes, reserve=reserve)
        check(plan)
        planned = dict(plan.places)
        work = Work(plan)
        spilled += plan.places != planned
        assert heap.chip.largest_free_block() >= min(reserve, before), (regions, reserve)
        assert work.stream.nbytes == 2 * plan.tokens * plan.width
    # Another region may have had room for what was meant for this one.
    assert spilled <= 6


@pytest.mark.parametrize("wifi", [False, True])
@pytest.mark.parametrize("name", ["fashion_mnist", "my_pictures"])
def test_cores_before_and_after_load(name, wifi, chip, chip_models):
    path = str(chip_models[name])
    picture, expected = expected_of(path)
    heap = chip(wifi)
    start = heap.inside()
    try:
        for before, after in ((1, 2), (2, 1), (2, 2)):
            ternary.cores(before)
            model = ftervit.VisionTransformer.load(path)
            assert model.plan.cores == before and heap.chip.largest_free_block() >= 64 * KB
            assert list(model(picture)) == expected
            scratch = model.plan.scratch
            for cores in (after, before, after):
                ternary.cores(cores)
                for _ in range(2):
                    assert list(model(picture)) == expected
                assert model.plan.cores == cores and heap.chip.largest_free_block() >= 64 * KB
                assert model.activation_bytes == model.plan.activation_bytes()
                inside = heap.inside() - start - sum(model.plan.pieces)
                assert 0 <= inside <= layout.OVERHEAD * len(model.plan.pieces)
            assert (model.plan.scratch > scratch) == (after > before)
            model = None
            gc.collect()
            assert heap.inside() == start
    finally:
        ternary.cores(1)


def test_a_picture_takes_no_internal_memory(chip, chip_models):
    """Neither from its pixels to its label, nor when a model is loaded beside another one."""
    for path in chip_models.values():
        heap = chip()
        model = ftervit.VisionTransformer.load(str(path))
        side, channels = model.img_size, model.in_chans
        least, memory = [], heap.memory

        def watched(size, leave, least=least, memory=memory):
            least.append(size)
            return memory(size, leave)

        heap.memory = watched
        picture = ftervit.Image(bytes(300 * 200 * 3), 300, 200, 3)
        model.predict(picture)
        model.predict(ftervit.Image(bytes(side * side * channels), side, side, channels))
        assert least == []


def test_reserve(chip, chip_models):
    path = str(chip_models["fashion_mnist"])
    picture, expected = expected_of(path)
    taken = []
    for reserve in (0, 32 * KB, 64 * KB, 100_000, 1 << 20):
        heap = chip()
        model = ftervit.VisionTransformer.load(path, reserve=reserve)
        assert list(model(picture)) == expected
        assert heap.chip.largest_free_block() >= min(reserve, 147456)
        taken.append(heap.inside())
        model = None
    assert taken == sorted(taken, reverse=True)
    # It would all be left to others, but the two small regions do no harm to the block.
    assert 0 < taken[-1] <= 32031 + 21572


def test_sram_and_piece_on_a_chip(chip, chip_models):
    path = str(chip_models["my_pictures"])
    picture, expected = expected_of(path)
    heap = chip()
    for sram, piece in ((60 * KB, None), (60 * KB, 20 * KB), (9 * KB, None), (0, None)):
        model = ftervit.VisionTransformer.load(path, sram=sram, piece=piece)
        assert list(model(picture)) == expected
        assert sum(model.plan.pieces) <= sram and max(model.plan.pieces, default=0) <= (piece or sram)
        assert heap.chip.largest_free_block() >= 64 * KB
        model = None


def test_what_has_no_room_after_all_goes_to_psram(chip, chip_models, monkeypatch):
    """Somebody was faster: memory that was free when the plan was made."""
    path = str(chip_models["fashion_mnist"])
    picture, expected = expected_of(path)
    whole = ftervit.VisionTransformer.load(path).plan
    heap = chip()
    make = plans.Work

    def late(plan):
        for _ in range(10):
            assert heap.chip.malloc(6 * KB)
        return make(plan)

    monkeypatch.setattr(plans, "Work", late)
    model = ftervit.VisionTransformer.load(path)
    assert list(model(picture)) == expected
    plan = model.plan
    assert plan.external_bytes() > 0 and re.search(r"^\w+ +\d+  PSRAM$", str(plan), re.MULTILINE)
    assert heap.chip.largest_free_block() >= 64 * KB and plan.cycles >= whole.cycles
    assert model.activation_bytes == plan.activation_bytes()


def test_what_fits_nowhere_is_refused_in_words(chip, chip_models):
    """And the model is as it was when there is room again."""
    path = str(chip_models["fashion_mnist"])
    picture, expected = expected_of(path)
    heap = chip()
    model = ftervit.VisionTransformer.load(path)
    assert list(model(picture)) == expected
    heap.chip, psram = ChipHeap(()), heap.psram
    try:
        ternary.cores(2)
        heap.psram = 20_000
        for _ in range(2):
            with pytest.raises(MemoryError, match=r"^activations: need \d+ bytes in pieces of \[\d+\], "):
                model(picture)
        heap.psram = psram
        assert list(model(picture)) == expected and model.plan.cores == 2
    finally:
        ternary.cores(1)


def test_two_models_in_turn(grouped_model, odd_model):
    """A model with a budget does not affect one without, nor the other way round."""
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
for options in ({}, {"sram": 1000}, {"sram": 48 * 1024, "piece": 24 * 1024}):
    model = VisionTransformer.load("models/fashion_mnist.safetensors", **options)
    logits.append(list(model(model.preprocess(read_image("images/8_bag.pgm")))))
print(logits[0] == logits[1] == logits[2], len(logits[0]))
print(model.plan)
"""
    result = board.mpremote("exec", script)
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "True 10" and any(line.startswith("SRAM: ") and "of 49152" in line for line in lines)


def test_patches_of_a_huge_stem_are_cut_in_passes():
    """All at once they would take 1.8 GB; with a larger kernel, more than 31 bits."""
    sizes = {
        "img_size": 4096,
        "in_chans": 3,
        "stem": [[4, 6, 1, 2], [1, 9, 9, 0]],
        "patch_size": 30,
        "patch_stride": 30,
        "patch_padding": 0,
        "num_classes": 2,
        "embed_dim": 4,
        "depth": 1,
        "num_heads": 1,
        "mlp_hidden": 4,
        "pool": "token",
        "name": "huge",
    }
    assert architecture_problem(sizes) is None
    plan = Plan(sizes)
    whole = [side * side * inputs for inputs, _, side in plan.convolutions()]
    assert whole[0] > 1 << 30  # even without the bytes up to a multiple of 16
    assert max(plan.patches()) == plan.patch_bytes <= MAX_VALUES
    assert max(plan.patches()) > MAX_VALUES // 2
