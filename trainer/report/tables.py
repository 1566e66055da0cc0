# SPDX-License-Identifier: MIT
"""The tables of README and docs/numbers.md, from the JSON that the recipes write."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host_sim.tables import NUMBERS, README, markdown, write_between
from trainer.errors import TrainerError
from trainer.experiments import ablate, stress
from trainer.experiments.bench import TITLES
from trainer.files import write_json
from trainer.paths import MODEL

START, END = "<!-- numbers: written by `just numbers` -->", "<!-- /numbers -->"
RESULTS_START, RESULTS_END = "<!-- results: written by `just numbers` -->", "<!-- /results -->"
FORMS = ("int8 embeddings, else float", "all integers, before recovery")
DEFAULT = MODEL.stem
SEES = {
    DEFAULT: "clothes, 28 x 28, grey",
    "eyes": "200 classes of Tiny ImageNet, 64 x 64",
    "cifar10": "10 classes of CIFAR-10, 32 x 32",
}
# Published figures of others, as their papers and pages state them.
PEERS = (
    ("MLPerf Tiny's reference, ResNet-8", "CIFAR-10", "85 % wanted", "96 KB", "", ""),
    ("TinyFormer (arXiv 2311.01759)", "CIFAR-10", "96.1 %", "below 1 MB", "320 KB", "(STM32F746)"),
    ("bitnet-edge, ternary CNN", "CIFAR-10", "69.02 %", "67 KB", "", "333 ms, measured"),
)
# What an evaluation holds of each class, of which no table tells: 200 classes have 40,000 confusions.
BY_CLASS = ("labels", "by_class", "confusion")
PAPER = {"deit3_small_patch16_224": 5.81, "deit3_small_patch16_384": 6.09, "deit_tiny_patch16_224": 1.53}


def read(path: Path, recipe: str) -> Any:
    """A JSON file that a recipe makes."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise TrainerError(f"{path}: not found; `just {recipe}` makes it") from None


def titled(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under its title."""
    return f"**{title}**\n\n{markdown(head, rows)}"


def percent(value: float) -> str:
    """Two digits."""
    return f"{value:.2f} %"


def accuracy_table(evaluation: dict, record: dict, control: dict) -> str:
    """The shipped model from its FP32 twin to the exported file."""
    validation, test = record["validation_top1"], record["test_top1"]
    epochs = record["configuration"]["student"]["epochs"]
    before, after = "ternary, float activations", "after recovery"
    size = f"{evaluation['model_bytes']:,} bytes"
    rows = (
        ("FP32 teacher (residual CNN)", validation["teacher"], evaluation["teacher_top1"], "`just eval`"),
        (
            f"FP32 control: same architecture, teacher, pictures, {epochs} epochs",
            control["validation_top1"],
            control["test_top1"]["FP32 control"],
            "`just control`",
        ),
        ("ternary weights, before recovery", validation[before], test[before], "`just train`"),
        *((f"the same, {form}", validation[form], None, "`just train`") for form in FORMS),
        ("after recovery, SPEC's integers in torch", validation[after], evaluation["student_top1"], "`just train`"),
        (f"**exported file on the simulator, {size}**", None, evaluation["exported_top1"], "`just eval`"),
    )
    lines = [
        (name, *("" if value is None else percent(value) for value in (held_out, tested)), command)
        for name, held_out, tested, command in rows
    ]
    title = f"The shipped model, top-1 on {evaluation['images']:,} Fashion-MNIST test pictures"
    return titled(title, ("", "validation", "test", "by"), lines)


def equality_line(evaluation: dict, demo: dict) -> str:
    """Agreement of file and student, and speed."""
    equal, images = f"{evaluation['equal_logits']:,}", f"{evaluation['images']:,}"
    return (
        f"File and student agree on {evaluation['agreement']:.2f} % of the test pictures, with logits equal bit for "
        f"bit on {equal} of {images} (largest difference {evaluation['largest_logit_difference']}). The host "
        f"simulator ran {evaluation['images_per_s']:.0f} pictures/s; `just demo` had {demo['right']} of {demo['of']} "
        f"right on the {demo['board']} board."
    )


def sizes_table(sizes: dict[str, int]) -> str:
    """Sizes of whole files next to the paper's."""
    rows = [(f"`{name}`", f"{size:,}", f"{PAPER[name] * 1e6:,.0f}") for name, size in sizes.items()]
    head = ("timm model", "bytes", "the paper's file")
    return titled("Whole model files, header and labels included (`just sizes`)", head, rows)


def bench_table(bench: dict) -> str:
    """Times of training steps relative to the FP32 step."""
    rows = [
        (TITLES[name], f"{1000 * row['median_s']:.0f} ms", f"{row['ratio']:.2f}")
        for name, row in bench["steps"].items()
    ]
    title = f"Forward and backward of a training step, batch {bench['batch']}, side by side (`just bench-train`)"
    return titled(title, ("", "median", "ratio"), rows)


def ablation_table(results: dict) -> str:
    """The ablation."""
    counts = sorted({len(row["trained"]) for row in results["rows"]})
    title = (
        f"What each choice is worth: a small sibling, {results['epochs']} epochs and {results['recovery_epochs']} of "
        f"recovery, {' or '.join(map(str, counts))} seeds, validation top-1 in percent, mean and half the range "
        "(`just ablate`)"
    )
    return f"**{title}**\n\n{ablate.table(results)}"


def starts_table(found: dict[str, float]) -> str:
    """Post-training ternarization."""
    title = "Ternary without training: the FP32 control's weights under each rule, validation top-1 (`trainer starts`)"
    return titled(title, ("", "top-1"), [(name, percent(top1)) for name, top1 in found.items()])


def results_table(evaluations: dict[str, dict], sizes: dict, bench: list[dict]) -> str:
    """What README's first page shows of each model and of its peers; times on the chip are modelled.

    evaluations: of the shipped models, by name.
    """
    times = {row["name"]: row for row in bench}
    deit = "deit3_small_patch16_224"
    on_chip = {name: modelled(found) for name, found in evaluations.items() if name != DEFAULT}
    on_chip[DEFAULT] = times["shipped_model"]
    rows = [
        (
            f"`{name}`",
            SEES[name],
            f"{percent(found['exported_top1'])} of {found['images']:,} test pictures" + twin(found),
            f"{found['model_bytes']:,} bytes",
            f"{on_chip[name]['activation_bytes']:,} bytes",
            time(on_chip[name]),
        )
        for name, found in evaluations.items()
    ]
    paper = f"{sizes[deit]:,} bytes (the paper's file: {PAPER[deit]:.2f} MB)"
    rows += [
        (f"`{deit}`", "random weights", "", paper, f"{times[deit]['activation_bytes']:,} bytes", time(times[deit])),
        *PEERS,
    ]
    return markdown(("model", "sees", "top-1", "file", "memory", "one picture on the ESP32-S3"), rows)


def twin(evaluation: dict) -> str:
    """Top-1 of the FP32 twin, where it was trained."""
    top1 = evaluation.get("control_top1")
    return "" if top1 is None else f" (FP32 twin {percent(top1)})"


def modelled(evaluation: dict) -> dict:
    """Time, cores and memory, as bench-s3 has them."""
    seconds, memory = evaluation["modelled_ms"] / 1000, evaluation["activation_bytes"]
    return {"seconds": seconds, "cores": evaluation["modelled_cores"], "activation_bytes": memory}


def time(row: dict) -> str:
    """Modelled time of a picture."""
    seconds, cores = row["seconds"], "core" if row["cores"] == 1 else "cores"
    return f"{f'{seconds * 1000:.1f} ms' if seconds < 0.1 else f'{seconds:.2f} s'}, {row['cores']} {cores}, modelled"


def evaluations(build: Path, checkpoints: Path) -> dict[str, dict]:
    """The evaluations of all shipped models by name, the default one first.

    Those of models whose pictures cannot be fetched lie beside their checkpoints; a newer one of `just eval MODEL`
    under build/ takes their place.
    """
    found = {DEFAULT: read(build / "eval.json", "eval")}
    for name in SEES:
        kept, newer = checkpoints / name / "eval.json", build / f"eval-{name}.json"
        model = MODEL.with_name(f"{name}.safetensors")
        if name == DEFAULT or not model.exists():
            continue
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        if newer.exists() and (result := read(newer, "eval")).get("model_sha256") == digest and is_whole(result):
            write_json({key: value for key, value in result.items() if key not in BY_CLASS}, kept)
        found[name] = read(kept, f"eval firmware/models/{name}.safetensors data.path=...")
        if found[name]["model_sha256"] != digest:
            raise TrainerError(f"{kept}: is of another file than {name}.safetensors; run `just eval` with it again")
    return found


def is_whole(evaluation: dict) -> bool:
    """Whether an evaluation is of all test pictures."""
    return evaluation["part"] == "test" and evaluation["images"] == 10_000 and evaluation["modelled_ms"] is not None


def write_all(build: Path, checkpoints: Path, readme: Path = README, numbers: Path = NUMBERS) -> None:
    """All tables, from the JSON in build/ and beside the checkpoints."""
    shipped, sizes = evaluations(build, checkpoints), read(build / "sizes.json", "sizes")
    evaluation = shipped[DEFAULT]
    record, control = read(checkpoints / "record.json", "train"), read(checkpoints / "control.json", "control")
    parts = [
        accuracy_table(evaluation, record, control),
        equality_line(evaluation, read(build / "demo.json", "demo")),
        sizes_table(sizes),
        ablation_table(read(checkpoints / "ablation.json", "ablate")),
        starts_table(read(checkpoints / "starts.json", "starts")),
        stress.table(read(build / "stress.json", "stress")),
        bench_table(read(build / "bench-train.json", "bench-train")),
    ]
    results = results_table(shipped, sizes, read(build / "bench-s3.json", "bench-s3"))
    try:
        write_between(numbers, START, END, "\n\n".join(parts))
        write_between(readme, RESULTS_START, RESULTS_END, results)
    except ValueError as error:
        raise TrainerError(str(error)) from None
