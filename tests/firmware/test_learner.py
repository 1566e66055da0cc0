# SPDX-License-Identifier: MIT
"""ftervit.Learner: what it decides is SPEC 12, whatever it was taught on and however it was saved."""

import json
import os
import struct
from binascii import crc32
from math import exp

import ftervit
import numpy as np
import pytest
from ftervit import learned, learner, ridge

from tests import oracle
from tests.firmware.test_equality import POOLINGS
from tests.tiny import images

SIDE, CHANNELS = 28, 1  # of odd_model
NAMES = ("cup", "pen", "nothing")


def pictures(count, seed=0):
    """Image objects of odd_model's size."""
    return [ftervit.Image(p.numpy().tobytes(), SIDE, SIDE, CHANNELS) for p in images(count, SIDE, CHANNELS, seed)]


@pytest.fixture
def model(odd_model):
    return ftervit.VisionTransformer.load(str(odd_model))


def taught(model, count=12, pooling="token", capacity=20):
    """A Learner and the names that it was taught, in order."""
    found = ftervit.Learner(model, pooling, capacity)
    names = [NAMES[(i * i + i // 2) % 3] for i in range(count)]
    for name, picture in zip(names, pictures(count), strict=True):
        found.learn(name, picture)
    return found, names


def by_oracle(path, names, pooling):
    """SPEC 12 for what `taught` was taught: head, limit, spread, sharpness; and a function: scores, distance."""
    network = oracle.Network(*oracle.load(path))

    def look(picture):
        shape = (picture.height, picture.width, picture.channels)
        return oracle.rms_norm(network.features(np.frombuffer(picture.pixels, np.uint8).reshape(shape))[pooling])

    x = np.stack([look(picture) for picture in pictures(len(names))])
    order = list(dict.fromkeys(names))
    labels, packed = [order.index(name) for name in names], oracle.gram(x)
    _, *head, margins = oracle.ridge_fit(x, labels, packed, [1024, 8192], len(order))
    count = max(1, min(len(names), 36, (3584 + len(order) * (960 - x.shape[1])) // ((x.shape[1] + 1) // 2)))
    directions, distances = oracle.span_fit(x, packed, 1024, count)
    (mean, deviation), (_, spread) = oracle.moments(margins), oracle.moments(distances)
    sharpness = max(768, min(1216, (mean << 25) // (deviation**2 + 1))) if mean > 0 else 768

    def decide(picture):
        f = look(picture)
        return oracle.ridge_scores(f, *head), oracle.span_distance(f, directions)

    return (*head, directions, oracle.limit(distances), spread, sharpness), decide


def state(head):
    """Everything that decides."""
    arrays = [bytes(part) for part in (head.weights, head.multiplier, head.bias, head.directions)]
    return [*arrays, head.limit, head.spread, head.sharpness]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_it_is_spec(odd_model, model, pooling):
    found, names = taught(model, pooling=pooling)
    (weights, multiplier, bias, directions, *numbers), decide = by_oracle(odd_model, names, pooling)
    expected = [weights.tobytes(), multiplier.tobytes(), bias.tobytes(), directions.tobytes(), *numbers]
    assert state(found.head()) == expected
    distances = []
    for picture in pictures(12, seed=5) + pictures(3):
        scores, distance = decide(picture)
        result = found.predict(picture, 9)
        assert len(result) == 4 and abs(sum(chance for _, chance in result) - 1) < 1e-6
        distances.append(distance)
        assert (result[0][0] == "unknown") == (distance > numbers[0])
        best = [found.labels[i] for i in np.argsort(-scores, kind="stable")]
        assert [label for label, _ in result if label != "unknown"] == best
        chances = dict(result)
        assert abs(chances["unknown"] - 1 / (1 + exp(-2 * (distance - numbers[0]) / numbers[1]))) < 1e-6
        ratio = exp((scores[0] - scores[1]) / 65536 * numbers[2] / 256)
        assert abs(chances[found.labels[0]] - ratio * chances[found.labels[1]]) < 1e-6
    found.head().limit = limit = sorted(distances)[5]
    shown = pictures(12, seed=5) + pictures(3)
    decided = [found.predict(picture, 1)[0][0] == "unknown" for picture in shown]
    assert decided == [distance > limit for distance in distances] and True in decided and False in decided


@pytest.mark.parametrize("count", [1, 2, 18, 19, 20, 38, 39, 40, 200, 1024])
def test_limits_of_distances(count):
    """SPEC 12.9; with 19 and more, 95 % of numbers of the same kind stay below."""
    rng, above = np.random.default_rng(count), []
    for _ in range(2000 if 19 <= count < 200 else 3):
        distances = (rng.gamma(2.0, 4000.0, count + 1)).astype(np.int32)
        taught = distances[:-1].copy()
        limit = ridge.limit_of(taught, *oracle.moments(taught))
        assert limit == oracle.limit(taught)
        above.append(distances[-1] > limit)
    if len(above) > 3:
        assert np.mean(above) < 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
        assert np.mean(above) > 0.01


def test_counts_undo_and_forget(model):
    found, names = taught(model)
    assert found.counts == {name: names.count(name) for name in NAMES if name in names}
    before = state(found.head())
    found.learn("pen", pictures(1, 7)[0])
    assert found.undo() == "pen" and state(found.head()) == before
    found.learn("new", pictures(1, 7)[0])
    assert found.counts["new"] == 1
    assert found.undo() == "new" and "new" not in found.counts and state(found.head()) == before
    found.forget("cup")
    again = ftervit.Learner(model, capacity=20)
    for name, picture in zip(names, pictures(len(names)), strict=True):
        if name != "cup":
            again.learn(name, picture)
    assert state(found.head()) == state(again.head()) and found.counts == again.counts
    while found.undo():
        pass
    assert found.labels == [] and found.counts == {}
    with pytest.raises(ValueError, match="nothing has been taught"):
        found.predict(pictures(1)[0])


def test_an_int8_picture_is_taken_as_it_is(model):
    found, _ = taught(model)
    picture = pictures(1, 3)[0]
    assert found.predict(picture) == found.predict(model.preprocess(picture))


def test_one_picture(model):
    found = ftervit.Learner(model, capacity=1)
    found.learn("only", pictures(1)[0])
    assert found.predict(pictures(1)[0])[0][0] == "only"


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("", "label has 0 bytes, needs 1..48"),
        ("ü" * 25, "label has 50 bytes, needs 1..48"),
        ("unknown", "label is 'unknown', which"),
        (" x", "begins or ends with a space"),
        ("a\nb", "control character"),
        (3, "label is 3, must be a text"),
    ],
)
def test_labels_that_cannot_be(model, label, words):
    found, _ = taught(model, 3)
    with pytest.raises(ValueError, match=words):
        found.learn(label, pictures(1)[0])
    assert sum(found.counts.values()) == 3


def test_limits(model):
    found, _ = taught(model, 4, capacity=4)
    with pytest.raises(
        ValueError, match="learn: all 4 pictures that there is room for are taught; undo or forget some"
    ):
        found.learn("cup", pictures(1)[0])
    with pytest.raises(ValueError, match="forget: 'dog' has not been taught"):
        found.forget("dog")
    for capacity in (-1, 1025):
        with pytest.raises(ValueError, match=rf"capacity is {capacity}, needs 0\.\.1024"):
            ftervit.Learner(model, capacity=capacity)
    with pytest.raises(ValueError, match="pooling is 'max', needs one of token"):
        ftervit.Learner(model, "max")


def test_a_picture_that_fails_teaches_nothing(model):
    found, _ = taught(model, 5)
    before = state(found.head())
    with pytest.raises(ValueError, match="picture"):
        found.learn("other", b"123")
    assert state(found.head()) == before and "other" not in found.labels


@pytest.mark.parametrize("pooling", POOLINGS)
def test_saved_and_loaded(model, tmp_path, pooling):
    found, _ = taught(model, pooling=pooling)
    path = str(tmp_path / "a.learned")
    found.save(path)
    for teach in (True, False):
        again = ftervit.Learner.load(path, model, teach)
        assert state(again.head()) == state(found.head()) and again.counts == found.counts
        assert all(again.predict(p) == found.predict(p) for p in pictures(4, 9))
    again = ftervit.Learner.load(path, model, capacity=30)
    for one in (found, again):
        one.undo()
        one.learn("pen", pictures(1, 8)[0])
    assert state(again.head()) == state(found.head())
    again.save(str(tmp_path / "b.learned"))
    found.save(path)
    assert (tmp_path / "b.learned").read_bytes() == (tmp_path / "a.learned").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.learned", "b.learned"]


def test_saved_without_pictures(model, tmp_path):
    found, _ = taught(model)
    path = str(tmp_path / "a.learned")
    found.save(path, pictures=False)
    again = ftervit.Learner.load(path, model)
    assert state(again.head()) == state(found.head()) and again.capacity == 0
    for act in (lambda: again.learn("cup", pictures(1)[0]), again.undo, lambda: again.forget("cup")):
        with pytest.raises(ValueError, match="it only predicts"):
            act()
    with pytest.raises(ValueError, match="it only predicts"):
        again.save(path)
    again.save(path, pictures=False)


@pytest.mark.parametrize(("width", "classes", "count"), [(192, 20, 200), (192, 3, 30), (320, 20, 200), (96, 1, 200)])
def test_sizes_of_files(width, classes, count):
    """At most 4 KB and 1 KB a class to predict, and 64 KB for 200 pictures of 320 features."""
    directions = ridge.directions_of(count, width, classes)
    to_predict = learned.SIZE + classes * (10 + width + 1 + ridge.MAX_LABEL) + directions * ridge.bytes_of(width)
    assert to_predict <= 4096 + 1024 * classes
    assert count * (width + 1) <= 65536


def test_room_for_200_pictures_of_320_features():
    assert learner.room_of(200, 320) + 20 * 1024 <= 200 * 1024 + 20 * 1024


@pytest.fixture
def file(model, tmp_path):
    """A saved file with pictures."""
    found, _ = taught(model, 6)
    path = tmp_path / "x.learned"
    found.save(str(path))
    return path


def refused(path, model, words):
    """Loading raises a ValueError of one line that names file and field."""
    with pytest.raises(ValueError) as error:
        ftervit.Learner.load(str(path), model)
    assert str(error.value).startswith(f"{path}: ") and words in str(error.value) and "\n" not in str(error.value)


def test_damaged_bytes_are_refused(file, model):
    whole = file.read_bytes()
    for at in [*range(100), *range(100, len(whole), 13)]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        refused(file, model, "")


def test_cuts_are_refused(file, model):
    whole = file.read_bytes()
    for size in [*range(100), *range(100, len(whole), 13)]:
        file.write_bytes(whole[:size])
        refused(file, model, "")
    file.write_bytes(whole + b"\0")
    refused(file, model, f"size: {len(whole) + 1} bytes, the header says {len(whole)}")


def patched(whole, at, layout, *values):
    """The file with other values at an offset, and a CRC-32 that fits."""
    changed = bytearray(whole)
    struct.pack_into(layout, changed, at, *values)
    struct.pack_into("<I", changed, 44, 0)
    struct.pack_into("<I", changed, 44, crc32(changed))
    return bytes(changed)


@pytest.mark.parametrize(
    ("at", "layout", "value", "words"),
    [
        (0, "B", 0, "format: not a file of what a Learner was taught"),
        (8, "<H", 1, "version: is 1, this reader knows 2"),
        (10, "B", 3, "pooling: is 3, needs 0..2"),
        (10, "B", 2, "width: is 33, the model has 66"),
        (11, "B", 2, "pictures flag: is 2, needs 0..1"),
        (12, "<H", 34, "width: is 34, the model has 33"),
        (14, "<H", 0, "classes: is 0, needs 1..100"),
        (14, "<H", 101, "classes: is 101, needs 1..100"),
        (16, "<H", 1, "pictures: is 1, needs 3..1024"),
        (16, "<H", 1025, "pictures: is 1025, needs 3..1024"),
        (18, "<H", 5, "directions: is 5, must be 6"),
        (20, "<I", 7, "model: taught with the model file 00000007"),
        (28, "<i", -1, "limit: is -1"),
        (32, "<i", -1, "spread: is -1"),
        (36, "<I", 767, "sharpness: is 767, needs 768..1216"),
        (48, "<i", -1, "multiplier: -1 is below 0"),
        (72, "<H", 0, "counts: [0, "),
        (72, "<H", 1, "counts: [1, "),
        (-1, "B", 2, "pictures: their classes are not as many as the counts say"),
        (-1, "B", 3, "pictures: their classes are not as many as the counts say"),
    ],
)
def test_every_field_is_checked(file, model, at, layout, value, words):
    whole = file.read_bytes()
    file.write_bytes(patched(whole, at % len(whole), layout, value))
    refused(file, model, words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x03cup", b"\x03c\xffp", "labels: class 0"),
        (b"\x03cup", b"\x03cu ", "labels: class 0: label 'cu '"),
        (b"\x03cup", b"\x03pen", "labels: 'pen' twice"),
        (b"\x03cup", b"\x00cup", "labels"),
    ],
)
def test_names_are_checked(file, model, old, new, words):
    whole = file.read_bytes()
    assert whole.count(old) == 1
    file.write_bytes(patched(whole.replace(old, new), 8, "<H", 2))
    refused(file, model, words if new[0] else "")


def test_a_file_of_another_model_is_refused(file, scaled_model):
    other = ftervit.VisionTransformer.load(str(scaled_model))
    refused(file, other, "model: taught with the model file ")


def test_a_file_that_is_not_there(model):
    with pytest.raises(OSError, match=r"none\.learned cannot be opened"):
        ftervit.Learner.load("none.learned", model)


class PowerFails(BaseException):
    """Nothing runs after it."""


@pytest.mark.parametrize("replace", ["at once", "removing first"])
def test_power_may_fail_at_any_step(model, tmp_path, monkeypatch, replace):
    """littlefs and POSIX replace a file at once; MicroPython's FAT removes the old one and then renames."""
    path = str(tmp_path / "x.learned")
    old, _ = taught(model, 4)
    new, _ = taught(model, 6)
    before_after, real = [state(old.head()), state(new.head())], os.replace

    def rename(source, target):
        if replace == "removing first":
            step()
            os.remove(target)
        step()
        real(source, target)

    def step():
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerFails

    class File:
        """A file of which each write may stop half way."""

        def __init__(self, name, mode):
            step()
            self.file = open(name, mode)  # noqa: SIM115

        def write(self, data):
            data = bytes(data)
            half = len(data) // 2
            self.file.write(data[:half])
            step()
            self.file.write(data[half:])
            return len(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    found, steps = set(), 0
    while True:
        left = 10**6
        monkeypatch.setattr(learned, "open", open, raising=False)
        monkeypatch.setattr(learned.os, "replace", real)
        for name in os.listdir(tmp_path):
            os.remove(tmp_path / name)
        old.save(path)
        left = steps
        monkeypatch.setattr(learned, "open", lambda name, mode: (File if mode == "wb" else open)(name, mode))
        monkeypatch.setattr(learned.os, "replace", rename)
        try:
            new.save(path)
            ended = True
        except PowerFails:
            ended = False
        loaded = state(ftervit.Learner.load(path, model, False).head())
        assert loaded in before_after, steps
        found.add(loaded == before_after[1])
        # What a broken attempt left behind does not harm the next one.
        monkeypatch.setattr(learned, "open", open, raising=False)
        monkeypatch.setattr(learned.os, "replace", real)
        new.save(path)
        assert state(ftervit.Learner.load(path, model, False).head()) == before_after[1]
        assert os.listdir(tmp_path) == ["x.learned"]
        if ended:
            break
        steps += 1
    assert found == {True, False} and steps > 8


def test_a_full_disk_keeps_the_old_file(model, tmp_path, monkeypatch):
    path = str(tmp_path / "x.learned")
    old, _ = taught(model, 4)
    old.save(path)

    class Full:
        """A file that takes half of what it is given."""

        def __init__(self, *arguments):
            self.file = open(*arguments)  # noqa: SIM115

        def write(self, data):
            return self.file.write(bytes(data)[: len(data) // 2])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    monkeypatch.setattr(learned, "open", lambda name, mode: (Full if mode == "wb" else open)(name, mode), raising=False)
    with pytest.raises(OSError, match="no room for"):
        taught(model, 6)[0].save(path)
    assert os.listdir(tmp_path) == ["x.learned"]
    assert state(ftervit.Learner.load(path, model).head()) == state(old.head())


BOARD_SCRIPT = """
import json
from binascii import crc32
from ftervit import Image, Learner, VisionTransformer
model = VisionTransformer.load("odd.safetensors")
with open("pictures.bin", "rb") as file:
    pictures = [Image(file.read(784), 28, 28, 1) for _ in range(18)]
learner = Learner(model, "token+mean", 20)
for i in range(12):
    learner.learn(("cup", "pen", "nothing")[(i * i + i // 2) % 3], pictures[i])
learner.learn("oops", pictures[0]); learner.undo()
learner.save("a.learned")
learner.save("a.learned")
again = Learner.load("a.learned", model)
for one in (learner, again, Learner.load("host.learned", model, False)):
    scores = [(list(head[0]), head[1]) for head in (one.head()(one.features(p)) for p in pictures[12:])]
    print("RESULT", json.dumps([scores, [one.predict(p)[0][0] for p in pictures[12:]]]))
"""


def test_taught_on_a_board_as_on_the_host(odd_model, model, own_board, tmp_path):
    """The same file byte for byte, and each reads the other's."""
    found, _ = taught(model, pooling="token+mean")
    found.save(str(tmp_path / "host.learned"))
    shown = pictures(12) + pictures(6, seed=5)
    (tmp_path / "pictures.bin").write_bytes(b"".join(bytes(p.pixels) for p in shown))
    (tmp_path / "script.py").write_text(BOARD_SCRIPT)
    files = [odd_model, tmp_path / "pictures.bin", tmp_path / "host.learned"]
    own_board.mpremote("fs", "cp", *files, ":")
    result = own_board.mpremote("run", tmp_path / "script.py")
    lines = [json.loads(line[7:]) for line in result.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == 3, result.stdout
    heads = [found.head()(found.features(p)) for p in shown[12:]]
    expected = [[[list(scores), distance] for scores, distance in heads], [found.predict(p)[0][0] for p in shown[12:]]]
    assert lines == [expected] * 3
    assert (own_board.flash / "a.learned").read_bytes() == (tmp_path / "host.learned").read_bytes()
