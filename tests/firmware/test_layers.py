# SPDX-License-Identifier: MIT
"""The layer classes of `ftervit`: called alone, replaced, subclassed, and after an allocation that failed."""

import ftervit
import pytest
import ternary
from ftervit import layers

from tests.tiny import pictures


@pytest.fixture
def model(odd_model):
    return ftervit.VisionTransformer.load(str(odd_model))


@pytest.fixture
def picture(model):
    return model.preprocess(ftervit.Image(pictures(3)[1].numpy().tobytes(), 28, 28, 1))


def own_buffer(part):
    """`part` behind a plain function that ignores `out` and returns a buffer of its own."""
    return lambda x, out=None, *rest: part(x)


def parts(model):
    """(owner, attribute) of everything that a block or the model calls."""
    for block in model.blocks:
        for name in ("norm1", "attn", "norm2", "mlp"):
            yield block, name
        yield from ((block.attn, "qkv"), (block.attn, "proj"))
        yield from ((block.mlp, "fc1"), (block.mlp, "act"), (block.mlp, "fc2"))
    yield from ((model, "norm"), (model, "head"))


def test_every_part_can_be_a_function(model, picture):
    expected = list(model(picture))
    for owner, name in list(parts(model)):
        part = getattr(owner, name)
        setattr(owner, name, own_buffer(part))
        assert list(model(picture)) == expected, name
        model.predict(ftervit.Image(bytes(784), 28, 28, 1))
        setattr(owner, name, part)
    for owner, name in list(parts(model)):
        setattr(owner, name, own_buffer(getattr(owner, name)))
    assert list(model(picture)) == expected


def test_a_block_can_be_a_function(model, picture):
    expected = list(model(picture))
    block = model.blocks[1]
    model.blocks[1] = lambda x, normed, wide: block(x)
    assert list(model(picture)) == expected


def test_softmax_as_a_function_gives_the_same_bits(model, picture):
    expected = list(model(picture))
    for block in model.blocks:
        softmax = block.attn.softmax
        block.attn.softmax = lambda scores, tokens, softmax=softmax: softmax(scores, tokens)
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


def test_fracs_are_there_for_people(model):
    assert isinstance(model.patch_embed.linear.frac, int)
    assert len(model.blocks[0].attn.qkv.frac) == 3
