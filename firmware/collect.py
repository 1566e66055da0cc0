# SPDX-License-Identifier: MIT
# Collects pictures for training from the camera, a folder for each class: mpremote connect PORT repl, then
#     >>> import collect
#     >>> collect.pictures("cat", "dog", board="XIAO_ESP32S3_SENSE")
# Keys: 1 takes a picture of the first class, 2 of the second; space only shows one; u deletes the last; q ends.
# A push button between a GPIO and ground (most boards have one, BOOT, at GPIO 0) works beside the keys, and without a
# PC: pictures(.., button=0), in main.py for a board on a battery. A press takes a picture of the class whose turn it
# is; a second of holding it down passes on to the next class.
# Then on the PC, where `just train` takes the folder as it is:
#     mpremote connect PORT cp -r :pictures .
#     just train --config trainer/configs/my_pictures.toml data.path=pictures
# `just deploy` writes this script to the board; without it: mpremote connect PORT cp firmware/collect.py :

import os
import select
import sys
from time import ticks_diff, ticks_ms

from ftervit import Image
from ftervit.camera import Camera, CameraError

FOLDER = "pictures"
SIDE = 128  # pixels of a side of the stored square, unless the frame's is smaller
COLUMNS = 40  # width of the printed picture
KEYS = "1234567890"  # by class
TAKE, NEXT = "+", ">"  # what a button types: a picture of the class whose turn it is, the next class
PERIOD = 5  # ms between looks at a button
SETTLE = 30  # ms that a button stays in a new position before it counts: contacts bounce
HOLD = 1000  # ms of holding it down for NEXT
ENDINGS = ".pgm", ".ppm"


class Folder:
    """A class's pictures: SESSION-0001.ppm and so on, so that copies of two sessions never have the same name."""

    def __init__(self, label, session):
        self.label, self.path = label, FOLDER + "/" + label
        for path in (FOLDER, self.path):
            try:
                os.stat(path)
            except OSError:
                os.mkdir(path)
        self.count = len([name for name in os.listdir(self.path) if name.endswith(ENDINGS)])
        self.session, self.taken = session, 0

    def add(self, image):
        """Store an Image; returns its path."""
        path = "%s/%s-%04d%s" % (self.path, self.session, self.taken + 1, ENDINGS[image.channels == 3])
        image.save(path)
        self.count += 1
        self.taken += 1
        return path

    def remove(self, path):
        """Delete the picture that was added last."""
        os.remove(path)
        self.count -= 1
        self.taken -= 1


def room_for(path):
    """How many more files of this one's size fit."""
    state = os.statvfs(FOLDER)
    blocks = -(-os.stat(path)[6] // state[0])
    return state[3] // blocks


def taken(camera):
    """A frame's middle square as it is stored, and printed."""
    frame = camera.image()
    side = min(SIDE, frame.width, frame.height)
    image = Image(frame.square(side, frame.channels), side, side, frame.channels)
    image.show(COLUMNS)
    return image


class Button:
    """A push button between a pin and ground, debounced. pin: its value() is 0 while the button is down."""

    def __init__(self, pin):
        self._pin = pin
        # Down from the start: counts once it was let go, as BOOT is still down after a reset into the firmware.
        self._seen = self._down = self._done = pin.value() == 0
        self._since = self._pressed = ticks_ms()

    def read(self):
        """TAKE when it was pressed and let go, NEXT when it has been down for HOLD, otherwise None.

        To be asked every PERIOD.
        """
        now, down = ticks_ms(), self._pin.value() == 0
        if down != self._seen:
            self._seen, self._since = down, now
        if down != self._down and ticks_diff(now, self._since) >= SETTLE:
            self._down = down
            if down:
                self._pressed, self._done = now, False
            elif not self._done:
                return TAKE
        if self._down and not self._done and ticks_diff(now, self._pressed) >= HOLD:
            self._done = True
            return NEXT
        return None


def button_at(pin):
    """The Button at a GPIO's number, or at an object with value(); ValueError for what is no pin."""
    if not hasattr(pin, "value"):
        try:
            from machine import Pin

            pin = Pin(pin, Pin.IN, Pin.PULL_UP)
        except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
            raise ValueError("button: %r, must be the number of a GPIO (%s)" % (pin, error))
    return Button(pin)


def keys_and(button):
    """A function that waits for the next key or what a Button says."""
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)

    def key():
        while True:
            if poll.poll(PERIOD):
                return sys.stdin.read(1)
            said = button.read()
            if said:
                return said

    return key


def collect(camera, folders, key):
    """Follow the keys that key() gives until q or their end."""
    added = []  # (folder, path)
    turn = 0
    while True:
        pressed = key()
        try:
            if pressed in ("q", ""):
                return
            if pressed == NEXT:
                turn = (turn + 1) % len(folders)
                print("button: %s" % folders[turn].label)
                continue
            if pressed == TAKE:
                pressed = KEYS[turn]
            if pressed == " ":
                taken(camera)
            elif pressed == "u" and added:
                folder, path = added.pop()
                folder.remove(path)
                print("deleted %s" % path)
            elif pressed in KEYS[: len(folders)]:
                folder = folders[KEYS.index(pressed)]
                path = folder.add(taken(camera))
                added.append((folder, path))
                print("%s: %d more fit" % (path, room_for(path)))
            else:
                continue
        except OSError as error:
            print("collect: %s" % (error.args[-1],))
        print(", ".join("%s %d" % (folder.label, folder.count) for folder in folders))


def problem(labels):
    """Why these are no names of classes, or None."""
    if not 2 <= len(labels) <= len(KEYS):
        return "2 to %d classes, not %d" % (len(KEYS), len(labels))
    for label in labels:
        if not isinstance(label, str) or not label or label[0] == "." or "/" in label or label != label.strip():
            return "class %r: must be a folder's name" % (label,)
        if list(labels).count(label) > 1:
            return "class %r: given twice" % label
    return None


def pictures(*labels, grey=False, button=None, key=lambda: sys.stdin.read(1), **settings):
    """Collect pictures of 2 to 10 classes until q; settings: those of ftervit.camera.Camera, as board, order, size.

    button: the number of a GPIO with a push button to ground, or a pin; it works beside the keys.
    """
    wrong = problem(labels)
    if wrong:
        return print("collect: " + wrong)
    try:
        if button is not None:
            key = keys_and(button_at(button))
        camera = Camera(grey, **settings)
    except (CameraError, ValueError) as error:
        return print("collect: %s" % error)
    try:
        session = "".join(["%02x" % byte for byte in os.urandom(3)])
        folders = [Folder(label, session) for label in labels]
        for pressed, folder in zip(KEYS, folders):
            print("%s: %s (%d)" % (pressed, folder.label, folder.count))
        if button is not None:
            print("button: press it for a picture of %s, hold it for the next class" % labels[0])
        print("space: look, u: delete the last, q: end")
        collect(camera, folders, key)
    except KeyboardInterrupt:
        pass
    except CameraError as error:
        print("collect: %s" % error)
    except OSError as error:
        print("collect: %s cannot be written: %s" % (FOLDER, error))
    finally:
        camera.close()
    print("on the PC: mpremote cp -r :%s ." % FOLDER)
