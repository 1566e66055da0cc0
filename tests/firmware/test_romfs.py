# SPDX-License-Identifier: MIT
"""Model files in a ROM file system: read in place where they lie on a multiple of 16, copied elsewhere."""

import json

import pytest
from mpremote.romfs import make_romfs

from tests.firmware.test_equality import host_logits
from tests.tiny import pictures

BOARD_SCRIPT = """
import gc, uctypes, vfs
from ftervit import Image, VisionTransformer
with open("rom{offset}.img", "rb") as file:
    image = file.read()
vfs.mount(vfs.VfsRom(image), "/rom")
with open("/rom/model.safetensors", "rb") as file:
    view = memoryview(file)
    address, size = uctypes.addressof(view) % 16, len(view)
gc.collect(); before = gc.mem_alloc()
model = VisionTransformer.load("/rom/model.safetensors")
gc.collect()
print("address", address, gc.mem_alloc() - before < size)
with open("picture.bin", "rb") as file:
    print("logits", list(model(model.preprocess(Image(file.read(), 28, 28, 1)))))
"""


@pytest.mark.parametrize("offset", [0, 1, 5])
def test_model_in_a_rom_file_system(odd_model, own_board, tmp_path, offset):
    picture = pictures(3)[1].numpy()
    content = tmp_path / "content"
    content.mkdir()
    (content / "model.safetensors").write_bytes(odd_model.read_bytes())
    # MicroPython's builder aligns nothing: a file that comes first moves the model.
    (content / "filler").write_bytes(bytes(offset))
    (tmp_path / f"rom{offset}.img").write_bytes(make_romfs(str(content), mpy_cross=False))
    (tmp_path / "picture.bin").write_bytes(picture.tobytes())
    (tmp_path / "script.py").write_text(BOARD_SCRIPT.format(offset=offset))
    own_board.mpremote("fs", "cp", tmp_path / f"rom{offset}.img", tmp_path / "picture.bin", ":")
    result = own_board.mpremote("run", tmp_path / "script.py")
    values = dict(line.split(" ", 1) for line in result.stdout.splitlines() if " " in line)
    assert "logits" in values, result.stdout
    assert json.loads(values["logits"]) == host_logits(odd_model, picture[None, ..., None])[0].tolist()
    address, smaller = values["address"].split()
    assert (smaller == "True") == (address == "0"), values
