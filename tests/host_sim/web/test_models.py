# SPDX-License-Identifier: MIT
"""Several shipped models: all can be chosen, teaching starts with the one made for it, and the first visit is small."""

import shutil

import ftervit
import pytest

from host_sim.web import site as web_site
from host_sim.web.browser import open_page
from host_sim.web.server import serving
from tests.conftest import ROOT

SHOE = ROOT / "firmware" / "images" / "7_sneaker.pgm"
CACHED = """async () => {
    await navigator.serviceWorker.ready;
    const cache = await caches.open((await caches.keys()).find((name) => name.startsWith("ftervit-")));
    return (await cache.keys()).map(({ url }) => new URL(url).pathname.slice(1)).sort();
}"""


@pytest.fixture
def several(site, tmp_path, monkeypatch):
    """A site with stand-ins for the models that ship beside fashion_mnist; `site` has installed the npm packages."""
    from tests.host_sim.web.shipped import write_models

    shutil.copytree(ROOT / "firmware", tmp_path / "firmware", ignore=shutil.ignore_patterns("boards"))
    write_models(tmp_path / "firmware" / "models")
    monkeypatch.setattr(web_site, "FIRMWARE", tmp_path / "firmware")
    monkeypatch.setattr(web_site, "BUILD", tmp_path)
    monkeypatch.setattr(web_site, "SITE", tmp_path / "web" / "site")
    return web_site.site()


def loaded(page, name):
    page.wait_for_function("name => document.getElementById('model').dataset.loaded === name", arg=name)


def test_teaching_starts_with_eyes_and_pictures_follow_to_another_model(several, chromium):
    models = several / "models"
    assert (models / "eyes.safetensors").stat().st_size > 500_000
    assert web_site.size(several, all_models=False) <= web_site.MAX_BYTES
    with serving(several) as address:
        context = chromium.new_context()
        context.set_default_timeout(60_000)
        page = open_page(context, address)
        names = ["fashion_mnist.safetensors", "cifar10.safetensors", "eyes.safetensors"]
        assert page.locator("#model option").evaluate_all("all => all.map(({ value }) => value)") == names

        # The first visit keeps what it starts with; another model when it is chosen.
        kept = page.evaluate(CACHED)
        assert "models/eyes.safetensors" in kept and "models/cifar10.safetensors" not in kept
        there = sum((several / (path or "index.html")).stat().st_size for path in kept if path)
        assert there + (several / "sw.js").stat().st_size == web_site.size(several, all_models=False)

        loaded(page, names[0])
        page.click("#tab-teach")
        loaded(page, names[2])
        page.wait_for_function("() => document.getElementById('teach-state').textContent === 'Learns with eyes.'")
        assert page.locator("#seen-size").text_content() == "64 \N{MULTIPLICATION SIGN} 64, colour"
        page.set_input_files("#files", SHOE)
        page.wait_for_function("n => document.getElementById('picture-name').textContent === n", arg=SHOE.name)
        network = ftervit.VisionTransformer.load(str(models / names[2]))
        logits = list(network(network.preprocess(ftervit.read_image(str(SHOE)))))
        found = page.evaluate("ftervit.board.call('look', { picture: ftervit.see.picture })")
        assert found["logits"] == logits and len(found["ranked"]) == 200
        best = network.labels[logits.index(max(logits))]
        page.wait_for_function("b => document.querySelector('#bars li span').textContent === b", arg=best)
        assert page.locator("#bars li").count() == 5

        # Taught to one model, then to the other.
        for label, picture in (("shoe", "7_sneaker.pgm"), ("bag", "8_bag.pgm")):
            page.fill("#class-name", label)
            page.keyboard.press("Enter")
            page.set_input_files("#files", ROOT / "firmware" / "images" / picture)
            page.wait_for_function("n => document.getElementById('picture-name').textContent === n", arg=picture)
            page.click(f"[data-label={label}]")
            page.locator(f"[data-label={label}]").get_by_text("1 picture", exact=True).wait_for()
        page.select_option("#model", names[1])
        page.wait_for_function("() => document.getElementById('teach-state').textContent === 'Learns with cifar10.'")
        assert page.locator("[data-label=shoe] span").text_content() == "1 picture"
        learner = ftervit.Learner(ftervit.VisionTransformer.load(str(models / names[1])))
        for label, picture in (("shoe", "7_sneaker.pgm"), ("bag", "8_bag.pgm")):
            learner.learn(label, ftervit.read_image(str(ROOT / "firmware" / "images" / picture)))
        expected = learner.predict(ftervit.read_image(str(ROOT / "firmware" / "images" / "8_bag.pgm")), 3)
        guess = page.evaluate(
            "ftervit.board.call('ask', { name: 'guess', parameters: [], picture: ftervit.see.picture })"
        )
        assert [label for label, _ in guess] == [label for label, _ in expected]
        assert [share for _, share in guess] == pytest.approx([share for _, share in expected], abs=1e-6)
        page.wait_for_function(f"async () => (await ({CACHED})()).includes('models/cifar10.safetensors')")

        # A choice is kept, and an int8 head has no share of zeros.
        page.click("#tab-inside")
        page.click("#tab-teach")
        page.wait_for_timeout(300)
        assert page.locator("#model").input_value() == names[1]
        page.select_option("#model", names[2])
        loaded(page, names[2])
        names = [row[0] for row in page.evaluate("ftervit.board.call('zeros')")]
        assert len(names) == 4 + 1 + 4 * 5 and "head" not in names
        context.close()


# A fetch whose answer for eyes comes when release() is called; a service worker's answers cannot be held by a route.
HOLD = """() => {
    const real = fetch;
    globalThis.fetch = async (url) => {
        const answer = await real(url);
        if (url.includes("eyes")) await new Promise((resolve) => (globalThis.release = resolve));
        return answer;
    };
}"""


def test_the_last_choice_counts(page):
    """Teaching asks for eyes, whose file comes after a model chosen meanwhile; one that fails changes nothing."""
    page.evaluate(HOLD)
    page.click("#tab-teach")
    page.wait_for_function("() => globalThis.release")
    page.select_option("#model", "fashion_mnist.safetensors")
    page.wait_for_function("() => document.getElementById('teach-state').textContent === 'Learns with fashion_mnist.'")
    page.evaluate("release()")
    # Long enough to read half a megabyte; the board would load it before the next call.
    page.wait_for_timeout(500)
    page.evaluate("ftervit.board.call('memory')")
    assert page.evaluate("ftervit.board.model.path") == "/models/fashion_mnist.safetensors"
    assert page.locator("#model").input_value() == "fashion_mnist.safetensors"

    missing = "new Response('', { status: 404, statusText: 'Not Found' })"
    page.evaluate(f"() => {{ globalThis.fetch = async () => {missing}; }}")
    page.select_option("#model", "eyes.safetensors")
    words = "models/eyes.safetensors: 404 Not Found"
    page.wait_for_function("words => document.getElementById('problem').textContent === words", arg=words)
    assert page.locator("#model").input_value() == "fashion_mnist.safetensors"
