# SPDX-License-Identifier: MIT
# Teaches the board what you show it: mpremote connect PORT mount firmware repl, then import teach, later teach.main().
# Keys: 1 to 9 teach the picture that is seen as that class, u takes the last one back, f and a digit forget a class,
# s saves, q or Ctrl-C ends. What was saved is there at the next start.
# Pictures come from the camera, or without one from the folder PICTURES: n and p turn pages.
# Change first: NAMES, of the classes of keys 1 to 9; MODEL, a model file (None: eyes.safetensors in models/,
# here or in /rom, or else the first there);
# BOARD, PINS, SIZE, FORMAT, ORDER: of the camera, as in classify_camera.py.

import os
import select
import sys

from ftervit import Learner, VisionTransformer, read_image
from ftervit.camera import Camera, CameraError

NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODEL = None
POOLING = "token"
FILE = "taught.learned"
PICTURES = "images"
BOARD = ""
PINS = {}
SIZE = "R240X240"
FORMAT = None
ORDER = None
ENDINGS = ".pgm", ".ppm", ".jpg", ".jpeg"
BAR = 10  # characters of a bar at 100 %
LINE = 79  # characters of the live line
HELP = "1-9 teach, u undo, f1-f9 forget, s save, q quit"


def found(folder, endings):
    """The files of a folder with these endings, here or else in /rom."""
    for place in ("", "/rom/"):
        try:
            names = sorted(os.listdir(place + folder))
        except OSError:
            continue
        names = [name for name in names if name.lower().endswith(endings)]
        if names:
            return [place + folder + "/" + name for name in names]
    return []


class Keys:
    """What is typed, without waiting for it."""

    def __init__(self):
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)

    def read(self, milliseconds):
        """The next key, or None if none comes within that time."""
        return sys.stdin.read(1) if self._poll.poll(milliseconds) else None


class Frames:
    """Pictures of a ftervit.camera.Camera, a new one each time."""

    live, name = True, "camera"

    def __init__(self, camera):
        self._camera = camera

    def image(self):
        """The next frame as an Image."""
        return self._camera.image()

    def turn(self, pages):
        """There is nothing to turn."""

    def close(self):
        """Switch the camera off."""
        self._camera.close()


class Album:
    """Pictures of a folder, one at a time."""

    live = False

    def __init__(self, paths):
        self._paths, self._page = paths, 0

    @property
    def name(self):
        """Of the picture that is seen."""
        return self._paths[self._page].split("/")[-1]

    def image(self):
        """An Image, or None if it cannot be read."""
        try:
            return read_image(self._paths[self._page])
        except (OSError, ValueError) as error:
            print("\nteach.py: %s" % error)
            return None

    def turn(self, pages):
        """See another picture."""
        self._page = (self._page + pages) % len(self._paths)

    def close(self):
        """Nothing is open."""


def source_for(model):
    """The camera, or else the folder; None after printing what is missing. Raises CameraError."""
    try:
        import camera  # noqa: F401
    except ImportError:
        paths = found(PICTURES, ENDINGS)
        if paths:
            print("no camera: pictures of %s/, n and p turn pages" % PICTURES)
            return Album(paths)
        print("teach.py: no camera, and no pictures (.pgm, .ppm, .jpg) in %s/ or /rom/%s/" % (PICTURES, PICTURES))
        return None
    return Frames(Camera(model.in_chans == 1, BOARD, FORMAT, ORDER, SIZE, PINS))


def open_learner(model):
    """What was saved, or a new Learner."""
    try:
        learner = Learner.load(FILE, model)
    except OSError:
        learner = Learner(model, POOLING)
        print("new; there is room for %d pictures" % learner.capacity)
        return learner
    known = taught(learner)
    print("%s: %s; there is room for %d pictures" % (FILE, known, learner.capacity))
    return learner


def taught(learner):
    """How many pictures each class has."""
    counts = learner.counts  # MicroPython's dict has no order
    return ", ".join("%s %d" % (label, counts[label]) for label in learner.labels)


def line_of(learner, features, name):
    """The live line: the most likely classes with bars, and how many pictures each class has."""
    if features is None:
        return "no picture"
    if not learner.labels:
        return "%s: nothing is taught yet, keys 1 to 9 teach" % name
    text = name
    for label, chance in learner.decide(features):
        text += "  %s %s %d%%" % (label, "#" * int(chance * BAR + 0.5) or ".", int(100 * chance + 0.5))
    return text


class Session:
    """What the keys do."""

    def __init__(self, learner, source):
        self.learner, self.source, self.features, self._forget = learner, source, None, False

    def look(self):
        """See the next picture and show what it is taken for."""
        image = self.source.image()
        self.features = None if image is None else self.learner.features(image)
        self.show()

    def show(self):
        """The live line, over the last one."""
        text = line_of(self.learner, self.features, self.source.name)[:LINE]
        print("\r%s%s" % (text, " " * (LINE - len(text))), end="")

    def say(self, text):
        """A line of its own, then the live line anew."""
        print("\r%s%s" % (text, " " * (LINE - len(text))))
        self.show()

    def key(self, key):
        """Do what a key means; returns whether to go on."""
        learner, forget = self.learner, self._forget
        self._forget = key == "f"
        if key in "q\x03\x04":
            return False
        try:
            if "1" <= key <= "9":
                self._digit(NAMES[int(key) - 1], forget)
            elif key == "u":
                label = learner.undo()
                self.say("nothing to undo" if label is None else "one picture less of %s" % label)
            elif key == "s":
                learner.save(FILE)
                self.say("saved to %s" % FILE)
            elif key in "np":
                self.source.turn(1 if key == "n" else -1)
                if not self.source.live:
                    self.look()
            elif key in "?h":
                self.say(HELP)
        except (OSError, ValueError) as error:
            self.say("teach.py: %s" % error)
        return True

    def _digit(self, label, forget):
        if forget:
            self.learner.forget(label)
            self.say("%s is forgotten" % label)
        elif self.features is not None:
            self.learner.add(label, self.features)
            self.say("%s: %d pictures" % (label, self.learner.counts[label]))


def backbone():
    """The model that was trained on most kinds of things, or else the first one; None if there is none."""
    models = found("models", (".safetensors",)) or [None]
    return ([path for path in models if path and path.endswith("/eyes.safetensors")] or models)[0]


def main():
    """Look and learn until q or Ctrl-C."""
    path = MODEL or backbone()
    if path is None:
        print("teach.py: no model (.safetensors) in models/ or /rom/models/")
        return
    model = VisionTransformer.load(path)
    try:
        learner = open_learner(model)
    except (MemoryError, ValueError) as error:
        print("teach.py: %s" % error)
        return
    try:
        source = source_for(model)
        if source is not None:
            follow(learner, source)
    except CameraError as error:
        print("\nteach.py: %s" % error)


def follow(learner, source):
    """See, show and do what the keys say, until q or Ctrl-C."""
    print(HELP)
    session, keys = Session(learner, source), Keys()
    try:
        session.look()
        while True:
            key = keys.read(0 if source.live else 1000)
            if key and not session.key(key):
                break
            if source.live:
                session.look()
    except KeyboardInterrupt:
        pass
    finally:
        source.close()
    print("\n%s" % taught(learner))


if sys.implementation.name == "micropython":
    main()  # whether run or imported
