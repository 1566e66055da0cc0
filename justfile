# FTerViT for MicroPython. Environment variables: PYTHON, Python 3.11 or newer for .venv (default python3); MPY_DIR, a
# MicroPython source tree for virtual boards and firmware (default for virtual boards: fetched); IDF_PATH and CAMERA_DIR,
# for `just firmware`.

set positional-arguments

system_python := env("PYTHON", "python3")
python := ".venv/bin/python"
setup := system_python + " -m host_sim.setup.environment"

# Show the recipes
default:
    @"{{ just_executable() }}" --list --unsorted

# Classify ten pictures on a virtual board (unix, qemu or browser): real MicroPython with the ternary module
[no-exit-message]
demo *ARGS: (prepare if ARGS == "browser" { "browser" } else { "demo" })
    @{{ python }} -m {{ if ARGS == "browser" { "host_sim.web" } else { "host_sim.boards" } }} demo "$@"

# Build the page with MicroPython in it and serve it on this machine (ARGS: --port PORT, or --out DIR for a static site)
[no-exit-message]
web *ARGS: (prepare "web")
    @{{ python }} -m host_sim.web "$@"

# Lint, all tests, and the sanitizers. With ARGS for pytest: lint and those tests
test *ARGS: lint
    @{{ setup }} test "$@"
    {{ python }} -m pytest "$@"
    {{ if ARGS == "" { quote(just_executable()) + " asan" } else { "" } }}

# Check style, types and spelling; changes nothing
lint: (prepare "lint")
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    find firmware mpy_module host_sim tests -name '*.[ch]' -exec .venv/bin/clang-format --dry-run --Werror {} +
    .venv/bin/codespell .

# Format Python and C sources
format: (prepare "lint")
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .
    find firmware mpy_module host_sim tests -name '*.[ch]' -exec .venv/bin/clang-format -i {} +

# Measure the shipped model on all 10,000 test pictures (writes build/eval.json), or MODEL (build/eval-NAME.json)
[no-exit-message]
eval *ARGS: (prepare "eval") (prepare "lx7")
    {{ python }} -m trainer evaluate "$@"

# Train the shipped model; resumes where it was interrupted (ARGS: --config FILE, section.key=value ...)
[no-exit-message]
train *ARGS: (prepare "train")
    {{ python }} -m trainer train "$@"

# Measure quick training on own photos on parts of CIFAR-10 (DATA), beside HOG + SVM (writes build/own-pictures.json)
[no-exit-message]
own-pictures DATA *ARGS: (prepare "train")
    {{ python }} -m trainer own-pictures "$@"

# Train the FP32 twin of the shipped model: same teacher, pictures and epochs
[no-exit-message]
control *ARGS: (prepare "train")
    {{ python }} -m trainer control "$@"

# Write an HTML page about a run: curves, histograms, confusions, attention maps (default: the shipped model's)
[no-exit-message]
report *ARGS: (prepare "train")
    {{ python }} -m trainer report "$@"

# Show parameters, trits and bytes of a model file by group
[no-exit-message]
inspect *ARGS: (prepare "eval")
    {{ python }} -m trainer inspect "$@"

# Compute the sizes of model files of DeiT models for ImageNet (writes build/sizes.json)
[no-exit-message]
sizes *ARGS: (prepare "train")
    {{ python }} -m trainer sizes "$@"

# Train a small model for each ablation of the method (hours; resumes)
[no-exit-message]
ablate *ARGS: (prepare "train")
    {{ python }} -m trainer ablate "$@"

# Measure the FP32 control's weights under each ternarization rule, without training (`just control` first)
[no-exit-message]
starts *ARGS: (prepare "train")
    {{ python }} -m trainer starts "$@"

# Measure the errors of ternary gammas and static scales on hard, made-up models (writes build/stress.json)
[no-exit-message]
stress: (prepare "train")
    {{ python }} -m trainer stress

# Time a training step and the FP32 step of the same model (writes build/bench-train.json)
[no-exit-message]
bench-train *ARGS: (prepare "train")
    {{ python }} -m trainer bench "$@"

# Measure again what needs no training, and write the tables of README and docs/numbers.md
[no-exit-message]
numbers: eval demo sizes stress bench-train bench-s3
    {{ python }} -m trainer numbers

# Measure how well and how fast a board learns what it is shown (ARGS: [MODEL] data.path=FOLDER [--methods])
[no-exit-message]
teach-bench *ARGS: (prepare "train") (prepare "lx7") (prepare "demo")
    {{ python }} -m trainer teach-bench "$@"

# Start a virtual board, print its device path and serve it until Ctrl-C (ARGS: unix or qemu, --flash DIR, --heap SIZE)
[no-exit-message]
board *ARGS: (prepare "demo")
    @{{ python }} -m host_sim.boards serve --with-parent "$@"

# List boards, real and virtual, with their firmware and models (ARGS: [PORTS] [--interrupt])
[no-exit-message]
boards *ARGS: (prepare "demo")
    @{{ python }} -m host_sim.boards.list "$@"

# Build a ROMFS image with aligned files: model, package, scripts, pictures (ARGS: MODEL [FILES] [--board BOARD] ...)
[no-exit-message]
romfs *ARGS: (prepare "demo")
    @{{ python }} -m host_sim.setup.romfs "$@"

# Build and check an ESP32-S3 board's firmware (ARGS: BOARD, or --check ELF; needs IDF_PATH, MPY_DIR; CAMERA_DIR)
[no-exit-message]
firmware *ARGS: (prepare "demo")
    @{{ python }} -m host_sim.esp32.firmware build "$@"

# Write built firmware to the board at PORT (BOARD: needed if several are built)
[no-exit-message]
flash PORT *BOARD: (prepare "flash")
    @{{ python }} -m host_sim.esp32.firmware flash "$@"

# Write a model with package, scripts and pictures to /rom of the board at PORT (FILES: more files)
[no-exit-message]
deploy PORT MODEL *FILES: (prepare "demo")
    @{{ python }} -m host_sim.esp32.firmware deploy "$@"

# Compare a DeiT-III-S with random weights on a board (224 in QEMU, 384 on unix) with the host, bit for bit (minutes)
[no-exit-message]
deit *ARGS: (prepare "train") (prepare "qemu") (prepare "demo")
    {{ python }} -m trainer.experiments.deit "$@"

# Simulate an ESP32-S3: run, profile, disasm, trace, script, silicon, fuzz, check-toolchain (ARGS: see --help)
[no-exit-message]
lx7 *ARGS: (prepare "lx7")
    @{{ python }} -m host_sim.chip "$@"

# Model the speed of kernels and networks on the ESP32-S3 (writes build/bench-s3.json; ARGS: NETWORK, --sram KB, --docs)
[no-exit-message]
bench-s3 *ARGS: (prepare "train") (prepare "lx7")
    {{ python }} -m host_sim.chip.bench "$@"

# Model the cost of networks by tokens, width and depth beside the plan's estimate (writes build/cost-curve.json; ARGS: --fit, --docs)
[no-exit-message]
cost-curve *ARGS: (prepare "train") (prepare "lx7")
    {{ python }} -m host_sim.chip.curve "$@"

# Time a picture in the page beside onnxruntime-web, in a headless Chromium (writes build/bench-web.json; ARGS: --rounds N)
[no-exit-message]
bench-web *ARGS: (prepare "bench-web")
    @{{ python }} -m host_sim.web.bench "$@"

# Time networks on this machine beside onnxruntime and openvino in int8 (writes build/bench-host.json; ARGS: see --help)
[no-exit-message]
bench-host *ARGS: (prepare "train")
    {{ python }} -m trainer.experiments.bench_host "$@"

# Soak test: 10,000 inferences (qemu: 1,000) on one core and on two, same logits, no memory lost (ARGS: KIND, --runs N)
[no-exit-message]
soak *ARGS: (prepare "demo")
    @{{ python }} -m host_sim.boards.soak "$@"

# Run the kernel tests and the simulated core under AddressSanitizer and UndefinedBehaviorSanitizer
asan: (prepare "kernels")
    {{ python }} -m tests.sanitize

# Fuzz readers and operations under sanitizers; resumes, counts in build/fuzz.json (ARGS: --minutes M, --seed N, --kind KIND)
[no-exit-message]
fuzz *ARGS: (prepare "train")
    @{{ python }} -m host_sim.fuzz "$@"

# Write requirements.lock, versions and hashes of all packages (ARGS: --upgrade, --upgrade-package NAME)
[no-exit-message]
lock *ARGS:
    @{{ setup }} lock "$@"

# What is half removed must not be taken for whole: it leaves its place first.
# Remove build outputs (not .venv, and not build/train, from which unfinished training resumes)
clean:
    rm -rf build/.removed
    mkdir -p build/.removed
    find build -mindepth 1 -maxdepth 1 ! -name train ! -name .removed -exec mv {} build/.removed/ \;
    rm -rf build/.removed
    rmdir build 2> /dev/null || true

[no-exit-message]
[private]
prepare TASK:
    @{{ setup }} {{ TASK }}
