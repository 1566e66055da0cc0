# SPDX-License-Identifier: MIT
# Collects pictures for training from the camera, a folder for each class: mpremote connect PORT repl, then
#     >>> import collect
#     >>> collect.pictures("cat", "dog", board="XIAO_ESP32S3_SENSE")
# Keys: 1 takes a picture of the first class, 2 of the second; space only shows one; u deletes the last; q ends.
# Then on the PC, where `just train` takes the folder as it is:
#     mpremote connect PORT cp -r :pictures .
#     just train --config trainer/configs/my_pictures.toml data.path=pictures
# `just deploy` writes this script to the board; without it: mpremote connect PORT cp firmware/collect.py :

import os
import sys

from ftervit import Image
from ftervit.camera import Camera, CameraError

FOLDER = "pictures"
SIDE = 128  # pixels of a side of the stored square, unless the frame's is smaller
COLUMNS = 40  # width of the printed picture
KEYS = "1234567890"  # by class
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


def collect(camera, folders, key):
    """Follow the keys that key() gives until q."""
    added = []  # (folder, path)
    while True:
        pressed = key()
        try:
            if pressed == "q":
                return
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


def pictures(*labels, grey=False, key=lambda: sys.stdin.read(1), **settings):
    """Collect pictures of 2 to 10 classes until q; settings: those of ftervit.camera.Camera, as board, order, size."""
    wrong = problem(labels)
    if wrong:
        return print("collect: " + wrong)
    try:
        camera = Camera(grey, **settings)
    except CameraError as error:
        return print("collect: %s" % error)
    try:
        session = "".join(["%02x" % byte for byte in os.urandom(3)])
        folders = [Folder(label, session) for label in labels]
        for pressed, folder in zip(KEYS, folders):
            print("%s: %s (%d)" % (pressed, folder.label, folder.count))
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
