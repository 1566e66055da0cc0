# SPDX-License-Identifier: MIT
"""The page computes the host's bits, and keeps no memory."""

import base64

import ftervit
import numpy as np
import pytest

from tests.conftest import ROOT

MODELS = sorted((ROOT / "firmware" / "models").glob("*.safetensors"))
PICTURES = sorted((ROOT / "firmware" / "images").glob("*.pgm"))
COUNT = 100

LOOK = """async ([path, pictures]) => {
    await ftervit.board.call("load", { path, data: null });
    const found = [];
    for (const text of pictures) {
        const picture = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        found.push((await ftervit.board.call("look", { picture })).logits);
    }
    return found;
}"""
MANY = """async ([text, count]) => {
    const picture = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const see = async (count) => {
        for (let i = 0; i < count; i++) await ftervit.board.call("look", { picture });
        // Garbage is collected when JavaScript calls the next time.
        await ftervit.board.call("memory");
        return await ftervit.board.call("memory");
    };
    return [await see(20), await see(count)];
}"""


def photos(count: int) -> list[bytes]:
    """PPM files of other sizes than the network's, of random colours."""
    random, files = np.random.default_rng(7), []
    for _ in range(count):
        height, width = random.integers(20, 200, 2)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        files.append(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes())
    return files


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_logits_are_the_hosts(page, model, tmp_path):
    files = [path.read_bytes() for path in PICTURES] + photos(5)
    network = ftervit.VisionTransformer.load(str(model))
    expected = []
    for number, data in enumerate(files):
        path = tmp_path / f"{number}.ppm"
        path.write_bytes(data)
        expected.append(list(network(network.preprocess(ftervit.read_image(str(path))))))
    assert len(expected) >= 10
    page.select_option("#model", model.name)
    page.wait_for_function("name => document.getElementById('model').dataset.loaded === name", arg=model.name)
    given = [base64.b64encode(data).decode() for data in files]
    assert page.evaluate(LOOK, [f"/models/{model.name}", given]) == expected


def test_many_pictures_leave_memory_flat(page):
    data = base64.b64encode(photos(1)[0]).decode()
    (used, _, whole), (used_then, _, whole_then) = page.evaluate(MANY, [data, COUNT])
    assert whole_then == whole
    assert used_then - used <= 16 * 1024
