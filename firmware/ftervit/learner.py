# SPDX-License-Identifier: MIT
"""Classes that are taught by showing pictures: ridge regression on a model's features (SPEC 12).

from ftervit import Learner, VisionTransformer, read_image
learner = Learner(VisionTransformer.load("models/eyes.safetensors"))
learner.learn("cup", read_image("cup1.ppm"))
print(learner.predict(read_image("cup2.ppm")))
learner.save("things.learned")
"""

import gc
from math import exp

import ternary

from ftervit.layers import put
from ftervit.ridge import MAX_CLASSES, MAX_PICTURES, Head, check_label, directions_of
from ftervit.vit import UNKNOWN

CAPACITY = 200  # pictures, where memory allows
LEFT_FREE = 8192  # bytes of heap that the room for pictures leaves to others


def room_of(pictures, width):
    """Bytes that teaching up to `pictures` takes: features, classes, products, and memory to work in."""
    work = ternary.ridge_scratch(pictures, width, min(pictures, MAX_CLASSES))
    return pictures * (width + 1) + pictures * (pictures + 1) + work


def _triangle(rows):
    return rows * (rows + 1) // 2


def likely(scores, distance, head):
    """(probability of each class, of unknown). For people: what decides is integers (SPEC 12.9)."""
    gap = (distance - head.limit) / max(1, head.spread)
    unknown = 1 / (1 + exp(max(-30.0, min(30.0, -2 * gap))))
    unit, most = head.sharpness * 2.0**-24, max(scores)
    powers = [exp(max(-60.0, (score - most) * unit)) for score in scores]
    known = (1 - unknown) / sum(powers)
    return [power * known for power in powers], unknown


class Learner:
    """labels: of the classes that have been taught; capacity: pictures that there is room for.

    model: a VisionTransformer; pooling: which of its features to use (SPEC 9.5); capacity: the most pictures, by
    default 200 or as many as memory has room for, 0 for one that only predicts. What was taught on one board decides
    the same on every other.
    """

    def __init__(self, model, pooling="token", capacity=None):
        self.model, self.pooling = model, pooling
        self.width = model.feature_count(pooling)
        self.labels = []  # type: list[str]
        self._counts = []  # type: list[int]
        self._taught, self.capacity = 0, 0
        self._head = None  # type: Head | None
        if capacity != 0:
            self._make_room(CAPACITY if capacity is None else capacity, capacity is None)

    def _make_room(self, capacity, fewer):
        """Memory for teaching, all of it now; with `fewer`, for fewer pictures where there is too little."""
        if not 1 <= capacity <= MAX_PICTURES:
            raise ValueError("capacity is %r, needs 0..%d" % (capacity, MAX_PICTURES))
        width = self.width
        while True:
            gc.collect()
            free = gc.mem_free() - LEFT_FREE if hasattr(gc, "mem_free") else None
            needed = room_of(capacity, width)
            try:
                if free is not None and needed > free:
                    raise MemoryError
                self._features = ternary.heap(capacity * width)
                self._classes = ternary.heap(capacity, "B")
                self._gram = ternary.heap(capacity * (capacity + 1), "h")
                self._scratch = ternary.heap(ternary.ridge_scratch(capacity, width, min(capacity, MAX_CLASSES)))
                self.capacity = capacity
                return
            except MemoryError:
                self._features = self._classes = self._gram = self._scratch = None  # type: ignore[assignment]
                if not fewer or capacity == 1:
                    where = "" if free is None else ", %d are free" % max(0, free)
                    raise MemoryError("capacity: %d pictures need %d bytes%s" % (capacity, needed, where))
                capacity -= max(1, capacity // 8)

    @property
    def counts(self):
        """Number of pictures taught, by label."""
        return dict(zip(self.labels, self._counts))

    def features(self, picture):
        """int8 [width] of an Image, or of an int8 picture as the model takes it (SPEC 9.5, 12.1)."""
        if hasattr(picture, "square"):
            picture = self.model.preprocess(picture)
        out = ternary.heap(self.width)
        ternary.rms_norm(self.model.features(picture, self.pooling), out)
        return out

    def _may_teach(self):
        if not self.capacity:
            raise ValueError("loaded without pictures, or without room to teach: it only predicts")

    def learn(self, label, picture):
        """Teach one picture (an Image, or int8 as the model takes it) of a class.

        ValueError for a label that cannot be, or where all `capacity` pictures are taught.
        """
        self._may_learn(label)
        self.add(label, self.features(picture))

    def add(self, label, x):
        """`learn` for `features` of a picture."""
        self._may_learn(label)
        if len(x) != self.width:
            raise ValueError("x has %d bytes, needs %d" % (len(x), self.width))
        width, at = self.width, self._taught
        end = at + 1
        put(x, self._features[at * width : end * width])
        ternary.gram(self._features[: end * width], width, 1, self._gram[_triangle(at) : _triangle(end)])
        if label not in self.labels:
            self.labels.append(label)
            self._counts.append(0)
        number = self.labels.index(label)
        self._classes[at] = number
        self._counts[number] += 1
        self._taught, self._head = end, None

    def _may_learn(self, label):
        self._may_teach()
        check_label(label)
        at = self._taught
        if at == self.capacity:
            raise ValueError("learn: all %d pictures that there is room for are taught; undo or forget some" % at)
        if len(self.labels) == MAX_CLASSES and label not in self.labels:
            raise ValueError("learn: %d classes are taught, no more are possible" % MAX_CLASSES)

    def undo(self):
        """Take back the picture that was taught last; returns its label, or None if there is none."""
        self._may_teach()
        if not self._taught:
            return None
        self._taught -= 1
        self._head = None
        number = self._classes[self._taught]
        label = self.labels[number]
        self._counts[number] -= 1
        if not self._counts[number]:  # its first picture: no class is younger
            self.labels.pop(number)
            self._counts.pop(number)
        return label

    def forget(self, label):
        """Take back all pictures of a class; ValueError if it has not been taught."""
        self._may_teach()
        if label not in self.labels:
            raise ValueError("forget: '%s' has not been taught" % (label,))
        number, width, count = self.labels.index(label), self.width, self._taught
        left = ternary.drop_class(self._features[: count * width], self._classes[:count], number)
        self.labels.pop(number)
        self._counts.pop(number)
        self._taught, self._head = left, None
        if left:
            ternary.gram(self._features[: left * width], width, left, self._gram[: _triangle(left)])

    def head(self):
        """The Head for all that has been taught; ValueError if nothing has."""
        if self._head is None:
            count, width, classes = self._taught, self.width, len(self.labels)
            if not count:
                raise ValueError("nothing has been taught")
            head = Head(width, classes, directions_of(count, width, classes))
            taught = self._features[: count * width], self._classes[:count], self._gram[: _triangle(count)]
            head.fit(*taught, self._scratch)
            self._head = head
        return self._head

    def predict(self, picture, top=3):
        """The `top` most likely (label, probability) of an Image, or of an int8 picture as the model takes it.

        "unknown" comes first if the picture is like none that was taught (SPEC 12.9).
        """
        return self.decide(self.features(picture), top)

    def decide(self, x, top=3):
        """`predict` for `features` of a picture."""
        head = self.head()
        scores, distance = head(x)
        chances, unknown = likely(scores, distance, head)
        best = ternary.heap(4 * len(scores), "i")
        ternary.topk(scores, best)
        found = [(self.labels[number], chances[number]) for number in best]
        found.insert(0 if distance > head.limit else 1, (UNKNOWN, unknown))
        return found[:top]

    def save(self, path, pictures=True):
        """Write what predicting takes and, with `pictures`, what going on to teach takes (SPEC 12.12).

        If power fails meanwhile, `load` finds the old file or the new one. OSError if it cannot be written.
        """
        from ftervit.learned import write

        taught = None
        if pictures:
            self._may_teach()
            taught = self._features[: self._taught * self.width], self._classes[: self._taught]
        write(path, self, self.head(), self._counts, taught)

    @classmethod
    def load(cls, path, model, teach=True, capacity=None):
        """Read a saved file for the model that it was taught with.

        teach: make room to go on teaching, where the file has its pictures; capacity: as for a new Learner, and at
        least the file's pictures. ValueError that names file and field for a file that is damaged or was taught with
        another model, OSError if it cannot be read, MemoryError with both numbers.
        """
        from ftervit.learned import LearnedFile

        file = LearnedFile(path, model)
        learner = cls(model, file.pooling, 0)
        learner.labels, learner._counts, learner._head = file.labels, file.counts, file.head
        if teach and file.taught is not None:
            features, classes = file.taught
            count, width = len(classes), learner.width
            learner._make_room(max(CAPACITY if capacity is None else capacity, count), capacity is None)
            if learner.capacity < count:
                room = path, count, learner.capacity
                raise MemoryError("%s: holds %d pictures, there is room for %d; load it with teach=False" % room)
            learner._features[: count * width] = features
            learner._classes[:count] = classes
            learner._taught = count
            ternary.gram(learner._features[: count * width], width, count, learner._gram[: _triangle(count)])
        return learner
