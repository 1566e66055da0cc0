# SPDX-License-Identifier: MIT
"""The Teach panel."""

import zipfile

import ftervit
import numpy as np
from PIL import Image

from host_sim.setup.shell import BUILD
from tests.conftest import ROOT

IMAGES = sorted((ROOT / "firmware" / "images").glob("*.pgm"))
MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
CLASSES = {"top": (0, 2, 6), "shoe": (5, 7, 9)}
ASKED = IMAGES[4]
ON_BOARD = """
from ftervit import Learner, VisionTransformer, read_image
model = VisionTransformer.load("models/fashion_mnist.safetensors")
print(Learner.load("/things.learned", model).predict(read_image("images/{name}")))
"""


def read(number):
    return ftervit.read_image(str(IMAGES[number]))


def says(page, place, words):
    """Wait until an element says something."""
    page.wait_for_function("([id, words]) => document.getElementById(id).textContent === words", arg=[place, words])


class TestTeach:
    def show(self, page, path):
        page.set_input_files("#files", path)
        page.wait_for_function("n => document.getElementById('picture-name').textContent === n", arg=path.name)

    def teach(self, page):
        page.select_option("#model", MODEL.name)
        page.click("#tab-teach")
        for label, numbers in CLASSES.items():
            self.teach_class(page, label, numbers)

    def teach_class(self, page, label, numbers):
        page.fill("#class-name", label)
        page.keyboard.press("Enter")
        for count, number in enumerate(numbers, 1):
            self.show(page, IMAGES[number])
            page.click(f"[data-label={label}]")
            self.count(page, label, count)

    def count(self, page, label, count):
        """Wait until a class has so many pictures."""
        words = "1 picture" if count == 1 else f"{count} pictures"
        page.locator(f"[data-label={label}]").get_by_text(words, exact=True).wait_for()

    def guesses(self, page, expected):
        """Wait until the panel shows labels and shares for ASKED."""
        self.show(page, ASKED)
        page.wait_for_function(
            "rows => JSON.stringify([...document.querySelectorAll('#guess li')].map(li => "
            "[li.firstChild.textContent, li.lastChild.textContent])) === JSON.stringify(rows)",
            arg=expected,
        )

    def restart(self, page):
        """Another interpreter, and none of the old one's guesses."""
        page.evaluate("ftervit.board.call('run', { code: 'old = 1' })")
        page.click("#tab-repl")
        page.click("#restart")
        page.wait_for_function("() => ftervit.board.call('run', { code: 'old' }).then((there) => !there, () => false)")
        page.evaluate("document.getElementById('guess').replaceChildren()")
        page.click("#tab-teach")

    def shown(self, found):
        return [[label, f"{100 * share:.1f} %"] for label, share in found]

    def test_answers_are_the_hosts_and_a_boards(self, page, own_board, tmp_path):
        self.teach(page)
        model = ftervit.VisionTransformer.load(str(MODEL))
        learner = ftervit.Learner(model)
        for label, numbers in CLASSES.items():
            for number in numbers:
                learner.learn(label, ftervit.read_image(str(IMAGES[number])))
        asked = ftervit.read_image(str(ASKED))
        expected = self.shown(learner.predict(asked, 3))
        self.guesses(page, expected)

        with page.expect_download() as download:
            page.click("#taught-save")
        file = own_board.flash / "things.learned"
        download.value.save_as(file)
        assert self.shown(ftervit.Learner.load(str(file), model).predict(asked, 3)) == expected
        script = tmp_path / "script.py"
        script.write_text(ON_BOARD.format(name=ASKED.name))
        said = own_board.mpremote("run", script).stdout
        assert self.shown(eval(said)) == expected

        # Undo, and load what was saved.
        page.click("#undo")
        page.locator("[data-label=shoe]").get_by_text("2 pictures").wait_for()
        page.set_input_files("#taught-file", file)
        page.locator("[data-label=shoe]").get_by_text("3 pictures").wait_for()
        self.guesses(page, expected)
        page.set_input_files("#taught-file", {"name": "bad.learned", "mimeType": "", "buffer": b"no"})
        page.wait_for_function("() => /^bad.learned: /.test(document.getElementById('problem').textContent)")

        # A picture of the file is taken back, after which a restart has the rest of the file.
        page.click("#undo")
        self.count(page, "shoe", 2)
        learner.undo()
        without = self.shown(learner.predict(asked, 3))
        self.guesses(page, without)
        self.restart(page)
        self.guesses(page, without)
        self.count(page, "shoe", 2)

    def test_what_is_taught_while_a_model_is_loaded_is_taught_once(self, page):
        page.select_option("#model", MODEL.name)
        page.click("#tab-teach")
        self.teach_class(page, "top", [0])
        # The board has the next model, whose learner is empty, before the panel hears of it.
        page.evaluate("ftervit.board.load(ftervit.board.model.path)")
        self.show(page, IMAGES[2])
        page.click("[data-label=top]")
        self.count(page, "top", 1)
        page.evaluate("ftervit.board.dispatchEvent(new Event('restarted'))")
        self.count(page, "top", 2)
        page.click("#undo")
        self.count(page, "top", 1)
        page.click("#undo")
        self.count(page, "top", 0)

    def test_table_of_pictures_that_it_was_not_taught_with_their_press(self, page):
        dialogs = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
        page.click("#tab-teach")
        page.fill("#class-name", "a/b")
        page.keyboard.press("Enter")
        says(page, "problem", "class a/b: its name becomes that of a folder of pictures, so it must have no /")
        assert page.locator("#classes button").count() == 0

        # Pictures of the shoe are pressed twice: once more the same picture, and by the keyboard.
        self.teach(page)
        page.locator("[data-label=shoe]").focus()
        for count, key in ((4, "Space"), (5, "Enter")):
            page.keyboard.press(key)
            self.count(page, "shoe", count)
        self.teach_class(page, "bag", [8])
        taught = [("top", n) for n in CLASSES["top"]] + [("shoe", n) for n in (*CLASSES["shoe"], 9, 9)] + [("bag", 8)]
        model = ftervit.VisionTransformer.load(str(MODEL))
        answers = []
        for label, number in taught:
            learner = ftervit.Learner(model)
            for other, shown in taught:
                if shown != number:
                    learner.learn(other, read(shown))
            answers.append(learner.predict(read(number), 1)[0][0] if label in learner.labels else None)
        assert answers[-1] is None
        page.click("#judge")
        page.wait_for_selector("#confusion:not([hidden])")
        right = sum(answer == label for (label, _), answer in zip(taught, answers, strict=True))
        assert page.locator("#judged").text_content() == (
            f"{right} of 8 right ({100 * right / 8:.1f} %). "
            "Not tested: bag, recorded in one press only; press again to have it tested."
        )
        head, *rows = page.locator("#confusion tr").all()
        columns = head.locator("th").all_inner_texts()
        assert columns[:3] == ["top", "shoe", "bag"] and set(columns[3:]) <= {"unknown"}
        for row, label in zip(rows, CLASSES, strict=True):
            assert row.locator("th").inner_text() == label
            said = [answer for (name, _), answer in zip(taught, answers, strict=True) if name == label]
            assert row.locator("td").all_inner_texts() == [str(said.count(column)) for column in columns]

        for name, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=BUILD / "web" / f"{name}-teach-table.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width

        # What is recorded afterwards makes the table old.
        page.click("[data-label=bag]")
        self.count(page, "bag", 2)
        assert page.locator("#confusion").is_hidden()
        page.click("#judge")
        page.wait_for_function("() => /Not tested: bag,/.test(document.getElementById('judged').textContent)")

        # Leaving asks first; nothing is there afterwards.
        page.reload()
        assert dialogs == ["beforeunload"]
        page.wait_for_selector("body[data-ready]")
        page.click("#tab-teach")
        assert page.locator("#classes button").count() == 0 and page.locator("#guess li").count() == 0
        assert page.evaluate("Object.keys(localStorage)") == []

    def test_export_is_a_folder_of_photos_for_the_trainer(self, page, tmp_path):
        from trainer.data.opening import open_data
        from trainer.data.settings import DataSettings

        self.teach(page)
        # A class of a part's name, and one held before the webcam.
        page.fill("#class-name", "test")
        page.keyboard.press("Enter")
        page.click("#camera")
        page.wait_for_function("() => document.getElementById('picture-name').textContent === 'webcam'")
        button = page.locator("[data-label=test]")
        button.dispatch_event("pointerdown")
        page.wait_for_function("() => parseInt(document.querySelector('[data-label=test] span').textContent) >= 3")
        page.evaluate("dispatchEvent(new PointerEvent('pointerup'))")
        page.click("#camera")
        page.wait_for_function("() => document.getElementById('video').hidden")
        with page.expect_download() as download:
            page.click("#taught-export")
        count = int(button.locator("span").inner_text().split()[0])
        path = tmp_path / "pictures.zip"
        download.value.save_as(path)
        assert download.value.suggested_filename == path.name

        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            names = sorted(archive.namelist())
            assert len({name.split("/")[-1] for name in names}) == len(names) == 6 + count
            for label, numbers in CLASSES.items():
                files = [name for name in names if name.startswith(f"train/{label}/")]
                for name, number in zip(files, numbers, strict=True):
                    with archive.open(name) as file, Image.open(file) as image:
                        assert image.mode == "L" and image.tobytes() == bytes(read(number).pixels)
            frames = [name for name in names if name.startswith("train/test/")]
            with archive.open(frames[0]) as file, Image.open(file) as image:
                assert image.mode == "RGB" and image.size == (240, 240)
                assert np.asarray(image).std() > 20

        settings = DataSettings(source="folder", path=str(path), size=28, channels=1, validation=3, workers=0)
        training, validation = open_data(settings)
        assert training.labels == ("shoe", "test", "top")
        assert (len(training), len(validation)) == (6 + count - 3, 3)
        everything = [*training.ordered(100), *validation.ordered(100)]
        for label, numbers in CLASSES.items():
            target = training.labels.index(label)
            found = {bytes(i.numpy().tobytes()) for b in everything for i in b.images[b.labels == target]}
            assert found == {bytes(read(number).pixels) for number in numbers}

    def test_what_was_taught_outlives_a_restart(self, page):
        self.teach(page)
        learner = ftervit.Learner(ftervit.VisionTransformer.load(str(MODEL)))
        for label, numbers in CLASSES.items():
            for number in numbers:
                learner.learn(label, read(number))
        expected = self.shown(learner.predict(read(int(ASKED.name[0])), 3))
        self.guesses(page, expected)
        self.restart(page)
        self.guesses(page, expected)
        assert page.locator("[data-label=shoe]").inner_text().endswith("3 pictures")
