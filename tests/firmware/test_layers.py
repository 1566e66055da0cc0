# SPDX-License-Identifier: MIT
"""The layer classes of `ftervit`: called alone, replaced, subclassed, and after a failed allocation."""

import functools
import weakref
from array import array
from types import SimpleNamespace

import ftervit
import numpy as np
import pytest
import ternary
from ftervit import layers

from tests.tiny import images


@pytest.fixture
def model(odd_model):
    return ftervit.VisionTransformer.load(str(odd_model))


@pytest.fixture
def picture(model):
    return some_picture(model)


def some_picture(model):
    """An int8 picture for a model."""
    pixels = images(3, model.img_size, model.in_chans)[1].numpy().tobytes()
    return model.preprocess(ftervit.Image(pixels, model.img_size, model.img_size, model.in_chans))


def own_buffer(part):
    """`part` wrapped in a plain function that ignores `out` and returns its own buffer."""
    return lambda x, out: part(x)


def convolutions(model):
    """Every TernaryBitConv2d of a model, in order."""
    return [*(stage.conv for stage in model.patch_embed.backbone), model.patch_embed.proj]


def parts(model):
    """(owner, attribute name or index) of every part that a block or the model calls."""
    for conv in convolutions(model):
        yield vars(conv), "linear"
    for index, stage in enumerate(model.patch_embed.backbone):
        yield from ((vars(stage), "conv"), (vars(stage), "act"), (model.patch_embed.backbone, index))
    yield from ((vars(model.patch_embed), "proj"), (vars(model), "patch_embed"))
    for block in model.blocks:
        for name in ("norm1", "attn", "norm2", "mlp"):
            yield vars(block), name
        yield from ((vars(block.attn), "qkv"), (vars(block.attn), "softmax"), (vars(block.attn), "proj"))
        yield from ((vars(block.mlp), "fc1"), (vars(block.mlp), "act"), (vars(block.mlp), "fc2"))
    yield from ((vars(model), "norm"), (vars(model), "head"))


@pytest.mark.parametrize("name", ["odd_model", "stem_model"])
def test_every_part_can_be_a_function(name, request):
    model = ftervit.VisionTransformer.load(str(request.getfixturevalue(name)))
    picture = some_picture(model)
    expected = list(model(picture))
    for owner, name in list(parts(model)):
        part = owner[name]
        owner[name] = own_buffer(part)
        assert list(model(picture)) == expected, name
        model.predict(ftervit.Image(bytes(784), 28, 28, 1))
        owner[name] = part
    for owner, name in list(parts(model)):
        owner[name] = own_buffer(owner[name])
    assert list(model(picture)) == expected


IN_PLACE = {"act", "softmax"}


def address(buffer):
    """Where a buffer begins and ends."""
    begin = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return begin, begin + memoryview(buffer).nbytes


@pytest.mark.parametrize("limits", [{}, {"sram": 0}, {"sram": 6000}])
@pytest.mark.parametrize("name", ["odd_model", "stem_model"])
def test_every_part_is_called_with_x_and_out(name, limits, request):
    """A plain function of two arguments in the place of each part, one at a time, which fills `out`."""
    model = ftervit.VisionTransformer.load(str(request.getfixturevalue(name)), **limits)
    picture = some_picture(model)
    expected = list(model(picture))
    blocks = [(model.blocks, index) for index in range(len(model.blocks))]
    for owner, key in [*parts(model), *blocks]:
        part, calls, is_block = owner[key], [], owner is model.blocks

        def function(x, out, key=key, part=part, calls=calls, is_block=is_block):
            # What follows compares sizes and places alone: the buffers are used again.
            calls.append((memoryview(x).nbytes, memoryview(out), address(x), address(out)))
            if is_block:
                return part(x)
            made = bytes(part(bytearray(x) if key in IN_PLACE else x))
            assert len(made) == memoryview(out).nbytes, key
            memoryview(out).cast("B")[:] = made
            return out

        owner[key] = function
        assert list(model(picture)) == expected, key
        assert calls, key
        for size, out, (begin, end), (start, stop) in calls:
            assert not out.readonly and out.format == {"head": "i"}.get(key, "h" if is_block else "b")
            if is_block or key in IN_PLACE:
                assert (begin, end) == (start, stop) and size == out.nbytes, key
            else:
                assert end <= start or stop <= begin, key
        owner[key] = part
    assert list(model(picture)) == expected


def test_parts_in_each_others_places(odd_model):
    """An Mlp as attention and attention as an Mlp, within a plan and by hand."""
    for limits in ({}, {"sram": 0}, {"sram": 6000}):
        model = ftervit.VisionTransformer.load(str(odd_model), **limits)
        picture = some_picture(model)
        block = model.blocks[1]
        block.attn = block.mlp
        stream = array("h", model.embed(picture))
        model.blocks[0](stream)
        x = bytes(block.mlp(block.norm1(stream)))
        ternary.residual_add(stream, x, block.attn_shift)
        ternary.residual_add(stream, bytes(block.mlp(block.norm2(stream))), block.mlp_shift)
        for other in model.blocks[2:]:
            other(stream)
        head = list(model.head(model.norm(memoryview(stream)[: model.embed_dim])))
        assert list(model(picture)) == head
        block.mlp = model.blocks[0].attn
        assert len(model(picture)) == len(model.labels)


def test_a_subclass_with_a_call_of_its_own_is_never_bypassed(model, picture):
    expected, calls = list(model(picture)), []
    for block in model.blocks:
        for name in ("attn", "mlp"):
            part = getattr(block, name)

            class Watched(type(part)):
                def __call__(self, x, out=None):
                    calls.append(type(self).__mro__[1])
                    return super().__call__(x, out)

            part.__class__ = Watched
    assert list(model(picture)) == expected
    assert calls == [ftervit.Attention, ftervit.Mlp] * len(model.blocks)


def test_a_part_that_fills_out_is_used(stem_model):
    """The buffer that patch_embed returns is used, whether it is `out` or its own."""
    model = ftervit.VisionTransformer.load(str(stem_model))
    picture = some_picture(model)
    stream = bytes(model.embed(picture))
    embed, given = model.patch_embed, []

    def zeros(picture, out):
        given.append(out)
        return bytes(len(out))

    model.patch_embed = zeros
    assert bytes(model.embed(picture)) != stream
    model.patch_embed = lambda picture, out: embed(picture, out)
    assert bytes(model.embed(picture)) == stream
    assert [len(out) for out in given] == [(model.tokens - 1) * model.embed_dim]


def test_the_stem_by_hand(stem_model):
    """Every convolution called alone, on an unchanged picture, gives the result of patch_embed."""
    model = ftervit.VisionTransformer.load(str(stem_model))
    picture = x = some_picture(model)
    before = bytes(picture)
    for stage in model.patch_embed.backbone:
        x = stage(x)
        assert len(x) == stage.conv.out_bytes() == stage.conv.new_side**2 * stage.conv.linear.out_features
    assert bytes(model.patch_embed.proj(x)) == bytes(model.patch_embed(picture))
    assert bytes(picture) == before
    assert [conv.new_side for conv in convolutions(model)] == [14, 16, 8, 4]


@pytest.mark.parametrize("size", [1, 29 * 29 * 3 - 1, 29 * 29 * 3 + 1, 2 * 29 * 29 * 3])
def test_a_convolution_wants_a_picture_of_its_side(stem_model, size):
    model = ftervit.VisionTransformer.load(str(stem_model))
    with pytest.raises(ValueError, match=r"^patches: "):
        model.patch_embed.backbone[0].conv(bytes(size))


@pytest.mark.parametrize("name", ["odd_model", "stem_model", "colour_model", "scaled_model"])
def test_the_memory_check_counts_all_that_a_picture_needs(name, request, monkeypatch):
    """The most that is allocated at a time, from the picture's pixels to the logits."""
    arenas, live, most = {"arena": ternary.arena, "heap": ternary.heap}, 0, 0

    def free(size):
        nonlocal live
        live -= size

    def counted(take, *arguments):
        nonlocal live, most
        view = take(*arguments)
        weakref.finalize(view.obj, free, view.nbytes)
        live += view.nbytes
        most = max(most, live)
        return view

    model = ftervit.VisionTransformer.load(str(request.getfixturevalue(name)))
    for name, take in arenas.items():
        monkeypatch.setattr(ternary, name, functools.partial(counted, take))
    side, channels = model.img_size, model.in_chans
    image = ftervit.Image(ternary.heap(side * side * channels, "B"), side, side, channels)
    model.predict(image)
    assert model.plan.picture_bytes() * 0.9 < most <= model.plan.picture_bytes()


def test_a_block_can_be_a_function(model, picture):
    expected = list(model(picture))
    block = model.blocks[1]
    model.blocks[1] = lambda x, out: block(x)
    assert list(model(picture)) == expected


def test_softmax_as_a_function_gives_the_same_bits(model, picture):
    expected = list(model(picture))
    for block in model.blocks:
        softmax = block.attn.softmax
        block.attn.softmax = lambda scores, out, softmax=softmax: softmax(scores)
    assert list(model(picture)) == expected


def test_a_subclass_of_attention_is_never_bypassed(model, picture):
    expected = list(model(picture))
    calls = []

    class Watched(ftervit.Attention):
        def scores(self, qkv, tokens, head):
            calls.append(head)
            return super().scores(qkv, tokens, head)

    attn = model.blocks[0].attn
    model.blocks[0].attn = Watched(
        attn.qkv, attn.softmax, attn.proj, attn.heads, attn.width, attn.score_shift, attn.value_gain
    )
    assert list(model(picture)) == expected
    assert calls == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 1, 32, 34, 67])
def test_a_linear_layer_wants_whole_rows(model, size):
    with pytest.raises(ValueError, match=f"x has {size} bytes, needs a multiple of 33"):
        model.blocks[0].mlp.fc1(bytes(size))
    with pytest.raises(ValueError, match=f"x has {size} bytes, needs a multiple of 33"):
        model.head(bytes(size))


def test_rows_are_independent(model):
    fc1 = model.blocks[0].mlp.fc1
    one, two = bytes(range(33)), bytes(range(33, 66))
    assert bytes(fc1(one + two)) == bytes(fc1(one)) + bytes(fc1(two))


def test_trits_are_the_decoded_tile(model):
    fc1 = model.blocks[0].mlp.fc1
    assert set(bytes(fc1.trits(1))) <= {0, 1, 255}
    assert len(fc1.trits(1)) == 33 * 16


def test_scratch_survives_a_failed_allocation(monkeypatch):
    scratch = layers.Scratch()

    def no_room(*arguments):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ternary, "arena", no_room)
        with pytest.raises(MemoryError):
            scratch.get(1000)
    assert len(scratch.get(1000)) >= 1000


def test_scratch_of_a_plan_serves_where_it_is_enough():
    scratch, memory = layers.Scratch(), memoryview(bytearray(1000))
    scratch.use(SimpleNamespace(scratch=memory, cores=1))
    assert scratch.get(1000) is memory
    assert scratch.get(1001) is not memory and len(scratch.get(1001)) >= 1001
    assert scratch.get(1001, max, 999, 1000) is memory and scratch.get(1001, max, 999, 1001) is not memory


def test_fracs_are_there_for_people(model):
    assert isinstance(model.patch_embed.proj.linear.frac, int)
    assert len(model.blocks[0].attn.qkv.frac) == 3
