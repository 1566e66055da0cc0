# SPDX-License-Identifier: MIT
"""The Teach panel."""

import ftervit

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


def test_panel_is_there(page):
    assert page.locator("#tab-teach").is_visible()


class TestTeach:
    def show(self, page, path):
        page.set_input_files("#files", path)
        page.wait_for_function("n => document.getElementById('picture-name').textContent === n", arg=path.name)

    def teach(self, page):
        page.click("#tab-teach")
        for label, numbers in CLASSES.items():
            page.fill("#class-name", label)
            page.keyboard.press("Enter")
            for count, number in enumerate(numbers, 1):
                self.show(page, IMAGES[number])
                page.click(f"[data-label={label}]")
                words = "1 picture" if count == 1 else f"{count} pictures"
                page.locator(f"[data-label={label}]").get_by_text(words, exact=True).wait_for()

    def guessed(self, page):
        """Labels and shares that the panel shows, for the picture that is shown."""
        self.show(page, ASKED)
        page.wait_for_timeout(500)
        return [row.split("\n") for row in page.locator("#guess li").all_inner_texts()]

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
        assert self.guessed(page) == expected

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
        assert self.guessed(page) == expected
        page.set_input_files("#taught-file", {"name": "bad.learned", "mimeType": "", "buffer": b"no"})
        page.wait_for_function("() => /^bad.learned: /.test(document.getElementById('problem').textContent)")

    def test_what_was_taught_outlives_a_restart(self, page):
        self.teach(page)
        before = self.guessed(page)
        page.click("#tab-repl")
        page.click("#restart")
        page.wait_for_timeout(1000)
        page.click("#tab-teach")
        assert self.guessed(page) == before
        assert page.locator("[data-label=shoe]").inner_text().endswith("3 pictures")
