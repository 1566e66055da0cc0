# SPDX-License-Identifier: MIT
"""How well and how fast a Learner learns (SPEC 12): `trainer teach-bench`, build/teach-bench.json.

Accuracies are of the integer Learner itself, on features that the shipped kernels compute from the pictures. Costs are
modelled on the simulated ESP32-S3; they do not include the interpreter. Heap is measured on the virtual board (unix),
whose pointers are twice as wide as a chip's; the package's own code counts.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from host_sim.setup.package import import_ftervit
from trainer.data.archive import data_root
from trainer.data.decode import SUFFIXES, UnreadableError, decode, square
from trainer.data.listing import walk
from trainer.errors import TrainerError
from trainer.files import commit
from trainer.paths import BUILD

CAMERA, CIFAR = "esp32-camera", "cifar-10"
SPLITS, SPLITS_LEFT_OUT = 20, 30  # of the camera's pictures
POOL = 100  # pictures of each CIFAR-10 class that are taught from
# Random classes and pictures: (classes, pictures of each, draws).
CIFAR_TASKS = {"cifar10_10x50": (10, 50, 5), "cifar10_5x5": (5, 5, 50)}
CAPACITY = 512
COST = {"pictures": 100, "classes": 20}
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "darker": lambda image: image.point(lambda v: v * 0.6),
    "brighter": lambda image: image.point(lambda v: min(255, v * 1.5)),
    "warmer": lambda image: image.convert("RGB", (1.2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0.75, 0)),
    "shifted": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, image.width / 8, 0, 1, 0)),
    "larger": lambda image: image.crop(
        tuple(int(v) for v in (*inset(image), *(s - i for s, i in zip(image.size, inset(image), strict=True))))
    ),
}
Progress = Callable[[str], None]


def inset(image: Image.Image) -> tuple[float, float]:
    """An eighth of both sides."""
    return image.width / 8, image.height / 8


class Folder:
    """Pictures by their names, of a folder or a zip file of the same name, which is read in place."""

    def __init__(self, data: Path, name: str):
        root = next((found for found in (data / name, data / f"{name}.zip") if found.exists()), None)
        if root is None:
            raise TrainerError(f"{data}: has neither a folder {name} nor {name}.zip")
        self.root, self.name = data_root(str(root)), name

    def by_class(self, prefix: str = "", count: int | None = None) -> dict[str, list[str]]:
        """Names in the folder `prefix` ("": in all) by the folder that they are in, the first `count` of each."""
        found: dict[str, list[str]] = {}
        inside = self.root / prefix if prefix else self.root
        for name in walk(inside, f"{prefix}/" if prefix else "") if inside.is_dir() else ():
            if name.lower().endswith(SUFFIXES) and "/" in name[len(prefix) :].strip("/"):
                found.setdefault(name.split("/")[-2], []).append(name)
        if len(found) < 2:
            raise TrainerError(f"{inside}: needs pictures in a folder for each class")
        return {label: names[:count] for label, names in sorted(found.items())}

    def picture(self, name: str) -> Image.Image:
        """A picture, mode RGB."""
        try:
            return decode((self.root / name).read_bytes())
        except UnreadableError as error:
            raise TrainerError(f"{self.root / name}: not a readable picture ({error})") from None


class Backbone:
    """Features of pictures, kept in build/teach/ for each model, pooling and change."""

    def __init__(self, path: Path, pooling: str, say: Progress):
        self.path, self.pooling, self.say = path, pooling, say
        self.model: Any = import_ftervit().VisionTransformer.load(str(path))
        self.width = self.model.feature_count(pooling)

    def learner(self, capacity: int = CAPACITY) -> Any:
        """A new Learner."""
        return import_ftervit().Learner(self.model, self.pooling, capacity)

    def features(self, folder: Folder, names: list[str], change: str = "as it is") -> np.ndarray:
        """int8 [pictures, width] (SPEC 12.1), in the order of `names`."""
        key = f"{self.model.digest.hex()}-{self.pooling}-{folder.name}-{change.replace(' ', '_')}.npz"
        cache, known = BUILD / "teach" / key, {}
        if cache.exists():
            with np.load(cache) as kept:
                known = dict(zip(kept["names"].tolist(), kept["features"], strict=True))
        wanted, learner = [name for name in names if name not in known], self.learner(1)
        for number, name in enumerate(wanted):
            image = CHANGES[change](folder.picture(name))
            pixels = square(image, self.model.img_size, self.model.in_chans)
            picture = import_ftervit().Image(pixels.tobytes(), *pixels.shape[1::-1], pixels.shape[2])
            known[name] = np.frombuffer(bytes(learner.features(picture)), np.int8)
            if number % 100 == 99 or number + 1 == len(wanted):
                self.say(f"{folder.name}, {change}: {number + 1} of {len(wanted)} pictures")
        if wanted:
            cache.parent.mkdir(parents=True, exist_ok=True)
            np.savez(cache, names=np.array(list(known)), features=np.stack(list(known.values())))
        return np.stack([known[name] for name in names])


def teach(learner: Any, taught: dict[str, np.ndarray]) -> Any:
    """Add features by class, in turns."""
    for i in range(max(map(len, taught.values()))):
        for label, features in taught.items():
            if i < len(features):
                learner.add(label, features[i].tobytes())
    return learner


def answers(learner: Any, features: np.ndarray) -> tuple[list[str], list[bool]]:
    """The most likely class of each picture, and whether it is taken for unknown."""
    found = [learner.decide(x.tobytes(), 2) for x in features]
    unknown = [best[0][0] == "unknown" for best in found]
    return [best[is_unknown][0] for best, is_unknown in zip(found, unknown, strict=True)], unknown


def accuracy(learner: Any, tested: dict[str, np.ndarray]) -> float:
    """Mean over classes of the share of right answers, in percent; "unknown" is not an answer here."""
    return 100 * float(np.mean([np.mean([a == label for a in answers(learner, x)[0]]) for label, x in tested.items()]))


def camera_draws(by_class: dict[str, np.ndarray], count: int, draws: int | None = None) -> Iterator[tuple[dict, dict]]:
    """`count` pictures of each class to teach, and the others."""
    rng = np.random.default_rng(0)
    for _ in range(draws or SPLITS):
        order = {label: rng.permutation(len(x)) for label, x in by_class.items()}
        taught = {label: x[order[label][:count]] for label, x in by_class.items()}
        yield taught, {label: x[order[label][count:]] for label, x in by_class.items()}


def cifar_draws(
    pool: dict[str, np.ndarray], test: dict[str, np.ndarray], classes: int, count: int, draws: int
) -> Iterator[tuple[dict, dict]]:
    """`count` training pictures of random classes to teach, and the test pictures of these."""
    rng = np.random.default_rng(1)
    for _ in range(draws):
        chosen = rng.permutation(sorted(pool))[:classes].tolist()
        taught = {label: pool[label][rng.permutation(len(pool[label]))[:count]] for label in chosen}
        yield taught, {label: test[label] for label in chosen}


def left_out(backbone: Backbone, draws: Iterator[tuple[dict, dict]]) -> dict[str, float]:
    """In percent: pictures of taught classes that are kept, and of the class that was left out found unknown."""
    kept, found = [], []
    for number, (taught, tested) in enumerate(draws):
        out = sorted(taught)[number % len(taught)]
        learner = teach(backbone.learner(), {label: x for label, x in taught.items() if label != out})
        others = np.concatenate([x for label, x in tested.items() if label != out])
        kept.append(1 - np.mean(answers(learner, others)[1]))
        found.append(np.mean(answers(learner, np.concatenate([taught[out], tested[out]]))[1]))
    return {"known_kept": 100 * float(np.mean(kept)), "unknown_found": 100 * float(np.mean(found))}


def methods(x: np.ndarray, labels: np.ndarray, tested: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Scores [pictures, classes] of other methods in float64, on the same features."""
    x, tested = (
        f / np.linalg.norm(f, axis=1, keepdims=True).clip(1e-9) for f in (x.astype(float), tested.astype(float))
    )
    means = np.stack([x[labels == label].mean(0) for label in range(classes)])
    within = x - means[labels]
    covariance = within.T @ within / len(x)
    covariance += np.eye(len(covariance)) * (np.trace(covariance) / len(covariance) + 1e-6)
    values, axes = np.linalg.eigh(covariance)
    white = axes / np.sqrt(values)
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True).clip(1e-9) for f in (means, means @ white, tested @ white)]
    near = tested @ x.T
    found = {"nearest mean": tested @ unit[0].T, "nearest mean, whitened": unit[2] @ unit[1].T}
    found["nearest neighbour"] = np.stack([near[:, labels == label].max(1) for label in range(classes)], 1)
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    for ridge in (1 / 16, 1 / 2, 1):
        solution = np.linalg.solve(x @ x.T + 1 + ridge * np.eye(len(x)), targets)
        found[f"ridge {ridge:g}, float"] = (near + 1) @ solution
    return found


def compare(backbone: Backbone, draws: Iterator[tuple[dict, dict]]) -> dict[str, float]:
    """Mean accuracy of every method, in percent."""
    found: dict[str, list[float]] = {}
    for taught, tested in draws:
        names = list(taught)
        x, y = (
            np.concatenate(list(taught.values())),
            np.repeat(np.arange(len(names)), [len(v) for v in taught.values()]),
        )
        t, truth = (
            np.concatenate(list(tested.values())),
            np.repeat(np.arange(len(names)), [len(v) for v in tested.values()]),
        )
        for name, scores in methods(x, y, t, len(names)).items():
            found.setdefault(name, []).append(100 * float((scores.argmax(1) == truth).mean()))
        found.setdefault("Learner", []).append(accuracy(teach(backbone.learner(), taught), tested))
    return {name: float(np.mean(values)) for name, values in found.items()}


def costs(path: Path, pooling: str) -> dict[str, float]:
    """Milliseconds on the simulated ESP32-S3, one core: what learning and predicting take beside the network."""
    from host_sim.chip.bench import FREE
    from host_sim.lx7.timing import CLOCK_HZ

    package = import_ftervit()
    import ternary

    runner: Any = ternary.use("lx7", regions=FREE)  # type: ignore[call-arg,func-returns-value]
    try:
        model = package.VisionTransformer.load(str(path))
        picture = ternary.heap(model.img_size**2 * model.in_chans)
        rng = np.random.default_rng(0)
        np.asarray(picture)[:] = rng.integers(-128, 128, len(picture))
        learner = package.Learner(model, pooling, COST["pictures"])
        for number in range(COST["pictures"] - 1):
            x = np.clip(rng.normal(0, 32, learner.width), -128, 127).astype(np.int8)
            learner.add(str(number % COST["classes"]), x.tobytes())

        def spent(function: Callable[[], Any]) -> float:
            before = runner.machine.totals.cycles
            function()
            return (runner.machine.totals.cycles - before) / CLOCK_HZ * 1000

        model(picture)
        network = spent(lambda: model(picture))
        learning = spent(lambda: (learner.learn("0", picture), learner.head()))
        predicting = spent(lambda: learner.predict(picture))
    finally:
        ternary.use("host")
    return {"network_ms": network, "learn_ms": learning - network, "predict_extra_ms": predicting - network}


HEAP_SCRIPT = """
import gc
from ftervit import VisionTransformer
model = VisionTransformer.load("{model}")
def used():
    gc.collect(); return gc.mem_alloc()
start = used()
from ftervit import Learner
learner = Learner.load("few.learned", model, False)
learner.decide(bytes(learner.width))
print("predict", used() - start)
learner = None
start = used()
learner = Learner.load("all.learned", model)
learner.undo()
learner.head()
print("teach", used() - start)
"""


def memory(path: Path, backbone: Backbone) -> dict[str, int]:
    """Bytes of saved files, and of heap on the virtual board: 20 classes; 200 pictures with teaching."""
    from host_sim.boards.client import Board

    folder = BUILD / "teach" / "board"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    learner = backbone.learner(200)
    for number in range(200):
        x = np.clip(rng.normal(0, 32, backbone.width), -128, 127).astype(np.int8)
        learner.add(f"class {number % COST['classes']}", x.tobytes())
    few, whole = folder / "few.learned", folder / "all.learned"
    learner.save(str(few), False)
    learner.save(str(whole))
    script = folder / "heap.py"
    script.write_text(HEAP_SCRIPT.format(model=path.name))
    with Board() as board:
        board.mpremote("fs", "cp", path, few, whole, ":", timeout=300)
        output = board.mpremote("run", script, timeout=300).stdout
    found = dict(line.split(" ") for line in output.splitlines() if line.startswith(("predict ", "teach ")))
    if len(found) != 2:
        raise TrainerError(f"the virtual board did not measure its heap: {output.strip()}")
    return {
        "heap_bytes": int(found["predict"]),
        "heap_teaching_200_bytes": int(found["teach"]),
        "file_bytes": few.stat().st_size,
        "file_with_200_pictures_bytes": whole.stat().st_size,
    }


def bench(path: Path, data: Path, pooling: str, test_images: int, table: bool, say: Progress) -> dict[str, Any]:
    """All figures; table: also those of other methods."""
    backbone = Backbone(path, pooling, say)
    camera, cifar = Folder(data, CAMERA), Folder(data, CIFAR)

    def features(folder: Folder, prefix: str, count: int | None, change: str = "as it is") -> dict[str, np.ndarray]:
        names = folder.by_class(prefix, count)
        found = backbone.features(folder, [name for part in names.values() for name in part], change)
        ends = np.cumsum([len(part) for part in names.values()])
        return dict(zip(names, np.split(found, ends[:-1]), strict=True))

    seen = features(camera, "", None)
    pool, test = features(cifar, "train", POOL), features(cifar, "test", test_images)
    digest = backbone.model.digest
    result: dict[str, Any] = {
        "model": path.name,
        "model_crc32": digest[3::-1].hex(),
        "pooling": pooling,
        "commit": commit(),
    }
    result["cifar10_test_pictures"] = sum(map(len, test.values()))
    scores = [accuracy(teach(backbone.learner(), a), b) for a, b in camera_draws(seen, 10)]
    result["esp32_camera_3x10"] = float(np.mean(scores))
    for name, task in CIFAR_TASKS.items():
        say(f"{name} ...")
        scores = [accuracy(teach(backbone.learner(), a), b) for a, b in cifar_draws(pool, test, *task)]
        result[name] = float(np.mean(scores))
    say("unknown ...")
    unknown = {"esp32_camera_20": left_out(backbone, camera_draws(seen, 20, SPLITS_LEFT_OUT))}
    unknown["esp32_camera_10"] = left_out(backbone, camera_draws(seen, 10, SPLITS_LEFT_OUT))
    unknown["cifar10_50"] = left_out(backbone, cifar_draws(pool, test, 10, 50, 5))
    result["unknown"] = unknown
    for key in ("known_kept", "unknown_found"):
        result[key] = min(unknown[task][key] for task in ("esp32_camera_20", "cifar10_50"))
    if table:
        say("other methods ...")
        rows = {f"camera {count}": compare(backbone, camera_draws(seen, count)) for count in (1, 5, 10, 20)}
        for count in (1, 5, 10, 30):
            rows[f"CIFAR-10 {count}"] = compare(backbone, cifar_draws(pool, test, 10, count, 3))
        for change in [name for name in CHANGES if name != "as it is"]:
            other = features(camera, "", None, change)
            pairs = zip(camera_draws(seen, 10), camera_draws(other, 10), strict=True)
            rows[f"camera 10, {change}"] = compare(backbone, ((a[0], b[1]) for a, b in pairs))
        result["methods"] = rows
    say("costs on the simulated chip ...")
    result |= costs(path, pooling)
    say("heap on the virtual board ...")
    return result | memory(path, backbone)


def lines(result: dict[str, Any]) -> str:
    """The figures as text."""
    from host_sim.tables import aligned

    flat = [(key, value) for key, value in result.items() if not isinstance(value, dict)]
    rows = [[key, f"{value:.2f}" if isinstance(value, float) else str(value)] for key, value in flat]
    rows += [
        [f"unknown, {key}", f"{v['known_kept']:.1f} kept, {v['unknown_found']:.1f} found"]
        for key, v in result["unknown"].items()
    ]
    text = aligned(rows)
    if "methods" in result:
        names = list(next(iter(result["methods"].values())))
        body = [[row, *(f"{found[name]:.1f}" for name in names)] for row, found in result["methods"].items()]
        text += "\n\n" + aligned([["accuracy in percent", *names], *body])
    return text


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)
