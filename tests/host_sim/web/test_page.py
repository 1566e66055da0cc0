# SPDX-License-Identifier: MIT
"""The page in a headless Chromium: pictures, webcam, REPL, scripts, and what it keeps."""

import re

import ftervit
import pytest

from host_sim.setup.shell import BUILD
from host_sim.web.browser import open_page
from host_sim.web.server import Handler, serving
from host_sim.web.site import copy_to
from tests.conftest import ROOT

IMAGES = ROOT / "firmware" / "images"
MODEL = ROOT / "firmware" / "models" / "fashion_mnist.safetensors"
LABELS = [re.sub(r"^\d_", "", path.stem) for path in sorted(IMAGES.glob("*.pgm"))]


def verdict(page, words):
    """Wait for the answer."""
    page.wait_for_function("words => document.getElementById('verdict').textContent === words", arg=words)


def problem(page, pattern):
    """Wait for the error line; returns it."""
    page.wait_for_function("p => new RegExp(p).test(document.getElementById('problem').textContent)", arg=pattern)
    return page.locator("#problem").text_content()


def terminal(page, pattern):
    """Wait until the terminal shows a text."""
    page.wait_for_function(
        "p => new RegExp(p).test([...document.querySelectorAll('.xterm-rows > div')]"
        ".map(row => row.textContent.trimEnd()).join('\\n').trimEnd())",
        arg=pattern,
    )


def repl(page):
    """The REPL, with the keyboard on it."""
    page.click("#tab-repl")
    page.locator(".xterm-helper-textarea").focus()
    terminal(page, r">>>")


def test_choose_pictures_and_see_labels(page):
    for number, label in ((1, "Trouser"), (8, "Bag")):
        page.set_input_files("#files", sorted(IMAGES.glob("*.pgm"))[number])
        verdict(page, label)
    assert re.fullmatch(r"\d+\.\d ms a picture", page.locator("#speed").text_content())
    first = page.locator("#bars li").first.inner_text().split("\n")
    assert first[0] == "Bag"
    assert float(first[-1].removesuffix(" %")) > 50
    assert page.locator("#bars li").count() == 5
    # As the network sees it: the file's own pixels, since it has the network's size.
    seen = page.evaluate(
        "[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]"
        ".filter((_, i) => i % 4 === 0)"
    )
    assert bytes(seen) == next(IMAGES.glob("8_*")).read_bytes()[-28 * 28 :]


def test_drop_and_paste(page):
    deliver = """async ([kind, url]) => {
        const canvas = new OffscreenCanvas(56, 56);
        canvas.getContext("2d").fillRect(0, 0, 56, 56);
        const transfer = new DataTransfer();
        transfer.items.add(new File([await canvas.convertToBlob()], `${kind}.png`, { type: "image/png" }));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: transfer });
        dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page.evaluate(deliver, [kind, ""])
        page.wait_for_function("n => document.getElementById('picture-name').textContent === n", arg=f"{kind}.png")


def test_wrong_files_are_refused_in_the_readers_words(page, tmp_path):
    page.set_input_files("#files", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    problem(page, r"^notes\.txt: not a picture that this browser can read")

    short = next(IMAGES.glob("5_*")).read_bytes()[:-10]
    page.set_input_files("#files", {"name": "short.pgm", "mimeType": "", "buffer": short})
    problem(page, r"^short\.pgm: 774 bytes of pixels, needs 784$")

    damaged = tmp_path / "damaged.safetensors"
    for data in (b"hello", MODEL.read_bytes()[:-100], MODEL.read_bytes().replace(b'"depth', b'"deqth', 1)):
        damaged.write_bytes(data)
        with pytest.raises(ValueError) as refusal:
            ftervit.VisionTransformer.load(str(damaged))
        page.set_input_files("#model-file", damaged)
        words = str(refusal.value).removeprefix(str(damaged))
        assert problem(page, re.escape(words) + "$") == f"/models/damaged.safetensors{words}"
    # The model that was there still answers.
    page.set_input_files("#files", next(IMAGES.glob("8_*")))
    verdict(page, "Bag")


def test_model_from_disk(page, tmp_path):
    other = tmp_path / "mine.safetensors"
    other.write_bytes(MODEL.read_bytes())
    page.set_input_files("#model-file", other)
    page.wait_for_function("() => document.getElementById('model').dataset.loaded === 'mine.safetensors'")
    verdict(page, "Ankle boot")


def for_clothes(page):
    """Choose the model for the test pictures, of which the webcam's video is made."""
    page.select_option("#model", MODEL.name)


def test_webcam(page):
    for_clothes(page)
    page.click("#camera")
    page.wait_for_function("() => /pictures\\/s/.test(document.getElementById('speed').textContent)")
    verdict(page, "Sneaker")
    page.click("#camera")
    page.wait_for_function("() => document.getElementById('video').hidden")
    assert page.locator("#camera").text_content() == "Start webcam"


def loads(page, name):
    page.wait_for_function("name => document.getElementById('model').dataset.loaded === name", arg=name)


def test_photos_and_the_webcam_start_with_eyes(page, chromium, address):
    grey, colour = b"P5 1 1 255\n\x80", b"P6 1 1 255\n\x80\x40\x20"
    page.set_input_files("#files", {"name": "grey.pgm", "mimeType": "", "buffer": grey})
    page.wait_for_function("() => document.getElementById('picture-name').textContent === 'grey.pgm'")
    loads(page, MODEL.name)
    page.set_input_files("#files", {"name": "colour.ppm", "mimeType": "", "buffer": colour})
    loads(page, "eyes.safetensors")
    for_clothes(page)  # a choice is kept
    loads(page, MODEL.name)
    page.set_input_files("#files", {"name": "again.ppm", "mimeType": "", "buffer": colour})
    page.wait_for_function("() => document.getElementById('picture-name').textContent === 'again.ppm'")
    loads(page, MODEL.name)

    context = chromium.new_context(permissions=["camera"])
    other = open_page(context, address)
    other.click("#camera")
    loads(other, "eyes.safetensors")
    other.wait_for_function("() => /pictures\\/s/.test(document.getElementById('speed').textContent)")
    context.close()


def test_look_inside(page):
    page.wait_for_function("() => document.querySelectorAll('#zeros div').length > 0")
    model = ftervit.VisionTransformer.load(str(MODEL))
    assert page.locator("#attention canvas").count() == len(model.blocks)
    shares = dict(re.findall(r"(block 0 fc1|head)\s+([\d.]+) %", page.locator("#zeros").inner_text()))
    for name, layer in (("block 0 fc1", model.blocks[0].mlp.fc1), ("head", None)):
        if layer:
            tiles = [bytes(layer.trits(tile)) for tile in range(layer.out_features // 16)]
            share = sum(tile.count(0) for tile in tiles) / (layer.in_features * layer.out_features)
            assert shares[name] == f"{100 * share:.1f}"
    # The class token's weights are those of the layers called on the host, head by head.
    weights = page.evaluate("ftervit.board.call('attention', { picture: ftervit.see.picture })")
    rows = []

    class RecordingSoftmax(ftervit.Softmax):
        def __call__(self, scores, out=None):
            found = super().__call__(scores, out)
            rows.append(list(found[: model.tokens]))
            return found

    block = model.blocks[0]
    block.attn.softmax = RecordingSoftmax(block.attn.softmax.table)
    model(model.preprocess(ftervit.read_image(str(next(IMAGES.glob("9_*"))))))
    assert weights[0] == [sum(column) for column in zip(*rows, strict=True)][1:]


def test_repl_round_trip_changes_what_is_seen(page):
    verdict(page, "Ankle boot")
    repl(page)
    page.keyboard.type("6 * 7\n")
    terminal(page, r"\n42\n>>>")
    # A head of one's own: the class before the one that the model's says.
    page.keyboard.type("head = model.head; model.head = lambda x, out: list(head(x))[1:] + list(head(x))[:1]\n")
    terminal(page, r"model\.head(.|\n)*\n>>>$")
    verdict(page, "Bag")
    # History, and a paste of several lines without auto-indent.
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type("print('a', 'line')\n")
    terminal(page, r"\na line\n>>>")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    terminal(page, r"\na line\n(.*\n)?a line\n>>>")
    page.evaluate("""() => {
        const transfer = new DataTransfer();
        transfer.setData("text", "for i in range(2):\\n    if i:\\n        print('pasted', i)\\n");
        document.querySelector(".xterm-helper-textarea").dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
    }""")
    terminal(page, r"\npasted 1\n>>>")


def test_ctrl_c_ends_an_endless_loop_and_a_sleep(page):
    assert page.evaluate("crossOriginIsolated")
    repl(page)
    page.keyboard.type("kept = 5\n")
    page.keyboard.type("print('loops'); exec('while True: pass')\n")
    terminal(page, r"\nloops")
    assert page.evaluate("ftervit.board.busy")
    page.keyboard.press("Control+c")
    terminal(page, r"KeyboardInterrupt:?\s*\n>>>")
    page.keyboard.type("import time; print('sleeps'); time.sleep(100)\n")
    terminal(page, r"\nsleeps")
    page.keyboard.press("Control+c")
    terminal(page, r"sleep\(100\)(\n.*)+KeyboardInterrupt:?\s*\n>>>")
    page.keyboard.type("print(kept + 1)\n")
    terminal(page, r"\n6\n>>>")


def test_without_isolation_ctrl_c_restarts_and_says_so(chromium, site):
    class Plain(Handler):
        isolated = False

    with serving(site, Plain) as address:
        context = chromium.new_context(service_workers="block")
        page = open_page(context, address)
        page.click("#tab-script")
        page.locator(".cm-content").fill("# mine")
        repl(page)
        assert page.locator("#isolation").is_visible()
        page.keyboard.type("print('loops'); exec('while True: pass')\n")
        terminal(page, r"\nloops")
        page.keyboard.press("Control+c")
        terminal(page, r"interrupted by a restart: this page is not cross-origin isolated(.|\n)*>>>")
        page.keyboard.type("1 + 1\n")
        terminal(page, r"\n2\n>>>")
        page.click("#tab-script")
        assert page.locator(".cm-content").inner_text() == "# mine"
        page.set_input_files("#files", next(IMAGES.glob("8_*")))
        verdict(page, "Bag")
        context.close()


def test_reload_keeps_what_was_saved_and_nothing_else(page):
    page.click("#tab-script")
    page.select_option("#script-name", "tinker.py")
    page.locator(".cm-content").fill("print('mine')")
    page.evaluate("ftervit.board.call('run', { code: 'forgotten = 1' })")
    page.set_input_files("#files", next(IMAGES.glob("8_*")))
    verdict(page, "Bag")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    verdict(page, "Ankle boot")
    page.click("#tab-script")
    page.select_option("#script-name", "tinker.py")
    page.click("#run")
    page.wait_for_selector("#output[data-state=ended]")
    assert page.locator("#output").text_content() == "mine\n"
    assert page.evaluate("ftervit.board.call('run', { code: 'forgotten' })") is False
    assert page.evaluate("Object.keys(localStorage)") == ["ftervit.script.tinker.py"]
    page.click("#script-reset")
    assert page.evaluate("Object.keys(localStorage)") == []


def test_scripts_run(page):
    page.click("#tab-script")
    for name, end in (("classify.py", "10 of 10 right"), ("tinker.py", "everything back, bit for bit")):
        page.select_option("#script-name", name)
        page.click("#run")
        page.wait_for_selector("#output[data-state=ended]")
        assert end in page.locator("#output").text_content()
        page.evaluate("document.getElementById('output').dataset.state = ''")


def test_nothing_is_asked_of_other_servers_and_nothing_is_sent(page, address):
    page.set_input_files("#files", next(IMAGES.glob("8_*")))
    verdict(page, "Bag")
    assert page.asked and all(url.startswith((address, "blob:", "data:")) for url in page.asked)
    for_clothes(page)
    loads(page, MODEL.name)
    before = len(page.asked)
    page.click("#camera")
    verdict(page, "Sneaker")
    assert len(page.asked) == before
    assert "No picture leaves this machine" in page.locator("footer").inner_text()
    # And it could not: the browser refuses.
    assert page.evaluate("fetch('http://192.0.2.1/').then(() => 'sent', () => 'refused')") == "refused"


def test_static_site_in_a_subfolder_works_offline(chromium, site, tmp_path):
    class Plain(Handler):
        isolated = False

    copy_to(tmp_path / "some" / "where")
    with serving(tmp_path, Plain) as address:
        context = chromium.new_context()
        page = open_page(context, f"{address}some/where/")
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    # The server is gone. The service worker sends the headers that this one did not.
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate("crossOriginIsolated")
    page.set_input_files("#files", next(IMAGES.glob("8_*")))
    verdict(page, "Bag")
    context.close()


def test_published_firmware_is_offered(chromium, site, tmp_path):
    (tmp_path / "MY_BOARD.bin").write_bytes(b"no image")
    copy_to(tmp_path / "site", tmp_path)
    with serving(tmp_path / "site") as address:
        context = chromium.new_context()
        context.add_init_script(
            "Object.defineProperty(navigator, 'serial', { value: { requestPort: async () => ({}) } })"
        )
        page = open_page(context, address)
        page.click("#tab-chip")
        page.select_option("#firmware-name", "MY_BOARD.bin")
        page.click("#flash")
        page.wait_for_function(
            "() => /^MY_BOARD.bin: not a flash/.test(document.getElementById('chip-state').textContent)"
        )
        context.close()


def test_keyboard_and_names_for_screen_readers(page):
    page.wait_for_selector("#tab-teach")
    page.locator("#tab-inside").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#teach").is_visible()
    assert page.evaluate("document.activeElement.id") in ("tab-teach", "")
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, select, input, textarea, canvas[role]")]
        .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)""")
    assert nameless == []


@pytest.mark.parametrize(
    "name, width, height, scheme",
    [("desktop", 1280, 900, "light"), ("phone", 390, 844, "light"), ("dark", 1280, 900, "dark")],
)
def test_screenshots_fit_the_screen(chromium, address, name, width, height, scheme):
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = open_page(context, address)
    for tab in ("teach", "repl", "script", "chip", "inside"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(200)
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        page.screenshot(path=BUILD / "web" / f"{name}-{tab}.png", full_page=True)
    context.close()
