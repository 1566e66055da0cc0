# SPDX-License-Identifier: MIT
"""parallel.h: an operation's work on two cores, with each of the three workers (FreeRTOS faked with POSIX threads)."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import cffi
import pytest

from host_sim import build
from tests.mpy_module.kernel import PLAIN

HERE = Path(__file__).resolve().parent
FAKE = HERE / "freertos"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pthread", f"-I{build.SOURCE}", f"-I{FAKE}")
SANITIZED = bool(os.environ.get("TERNARY_LIBRARY"))

IMPLEMENTATIONS = {
    "none": (),
    "pthread": ("-DTERNARY_PARALLEL_PTHREAD", "-DTERNARY_PROCESSORS=2"),
    "freertos": ("-DTERNARY_PARALLEL_FREERTOS", FAKE / "fake.c"),
}
FOUR = {"four": ("-DTERNARY_PARALLEL_PTHREAD", "-DTERNARY_PROCESSORS=4")}
CORES = {"none": 1, "pthread": 2, "freertos": 2}
ROUNDS = 100_000
CHECKS = """
typedef struct { int32_t calls[4], on_caller[4]; } trace;
void check_trace(trace *outer, trace *inner, size_t parts);
uint32_t check_rounds(uint32_t rounds, size_t count, size_t parts);
int32_t ternary_cores(void);
int32_t ternary_use_cores(int32_t cores);
int32_t check_abandoned(int32_t *ended);
void ternary_worker_settle(void);
"""
FREERTOS = """
extern struct { char name[16]; uint32_t stack_bytes, priority; int32_t core; } fake_created;
void fake_move_to_core(int32_t core);
void *xTaskGetCurrentTaskHandle(void);
int xTaskNotifyGive(void *task);
uint32_t ulTaskNotifyTake(int clear, uint32_t ticks);
"""

ffi = cffi.FFI()
ffi.cdef(CHECKS + FREERTOS)
loaded = []  # kept loaded: a fake task never ends


def compiled(name, output, *flags):
    """Implementation `name` with parallel_check.c, written to `output`."""
    sources = (*sorted(build.SOURCE.glob("parallel*.c")), HERE / "parallel_check.c")
    command = [build.compiler(), *STRICT, *flags, *(IMPLEMENTATIONS | FOUR)[name], *sources, "-o", output]
    done = subprocess.run(list(map(str, command)), env=PLAIN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def run(program, *arguments):
    """Exit status and output of a program."""
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, env=PLAIN, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shared(name, folder):
    """An implementation as a shared library's path."""
    flags = build.SANITIZE if SANITIZED else ("-O2",)
    return compiled(name, folder / f"{name}.so", "-shared", "-fPIC", *flags)


@pytest.fixture(scope="module")
def program(name, folder):
    """An implementation as a program. A hang there can be killed; in this process it would block all signals."""
    program = compiled(name, folder / name, "-O2")
    for check in ("rounds", "nested", "callers"):
        assert run(program, check, 1000).returncode == 0
    return program


def load(path):
    """A library's functions, with two cores where it has them."""
    loaded.append(ffi.dlopen(str(path)))
    return loaded[-1]


@pytest.fixture
def library(program, shared):
    library = load(shared)
    library.ternary_use_cores(2)
    return library


def traced(library, parts, nested=False):
    """(calls, on the caller's thread) of every part; if nested, also of the parts that every part calls."""
    outer, inner = ffi.new("trace *"), ffi.new("trace[4]")
    library.check_trace(outer, inner if nested else ffi.NULL, parts)
    lists = [list(zip(t.calls, t.on_caller, strict=True)) for t in (outer[0], *inner)]
    assert all(entry == (0, 0) for entries in lists for entry in entries[parts:])
    first, *others = [entries[:parts] for entries in lists]
    return (first, others[:parts]) if nested else first


def in_thread(function):
    """The result of a function run on a new thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_cores_are_one_at_first_and_clamped(name, shared, tmp_path):
    fresh = load(shutil.copy(shared, tmp_path / "fresh.so"))
    assert fresh.ternary_cores() == 1
    for wanted, expected in ((2, 2), (1, 1), (3, 2), (0, 1), (2**31 - 1, 2), (-(2**31), 1)):
        assert fresh.ternary_use_cores(wanted) == fresh.ternary_cores() == min(expected, CORES[name])


def test_four_processors(folder):
    """As many workers as there are processors beside the caller's; each part on its own, those beyond on the caller."""
    flags = build.SANITIZE if SANITIZED else ("-O2",)
    library = load(compiled("four", folder / "four.so", "-shared", "-fPIC", *flags))
    for wanted, expected in ((3, 3), (9, 4), (1, 1), (4, 4)):
        assert library.ternary_use_cores(wanted) == library.ternary_cores() == expected
    for _ in range(100):
        assert traced(library, 4) == [(1, 1), (1, 0), (1, 0), (1, 0)]
        assert traced(library, 3) == [(1, 1), (1, 0), (1, 0)]
        outer, inner = traced(library, 4, nested=True)
        assert outer == [(1, 1), (1, 0), (1, 0), (1, 0)]
        assert inner == [[(1, 1)] * 4] * 4
    assert library.ternary_use_cores(2) == 2
    for parts in (2, 3, 4):
        assert library.check_rounds(2000, 64, parts) == 0


def test_four_processors_without_races(folder, thread_sanitizer):
    program = compiled("four", folder / "four-tsan", *thread_sanitizer)
    for check in ("rounds", "callers"):
        done = run(program, check, 1000)
        assert done.returncode == 0, done.stderr


def test_every_part_runs_once_in_its_place(name, library):
    elsewhere = (1, int(CORES[name] == 1))
    for _ in range(100):
        assert traced(library, 0) == []
        assert traced(library, 1) == [(1, 1)]
        assert traced(library, 2) == [(1, 1), elsewhere]
        assert traced(library, 4) == [(1, 1), elsewhere, (1, 1), (1, 1)]


def test_one_core_after_two(name, library):
    assert library.ternary_use_cores(1) == 1
    assert traced(library, library.ternary_cores()) == [(1, 1)]
    assert library.check_rounds(100, 64, 1) == 0
    assert library.ternary_use_cores(2) == CORES[name]
    assert traced(library, 2)[1] == (1, int(CORES[name] == 1))


def test_nested_calls_are_sequential(name, library):
    for _ in range(100):
        outer, inner = traced(library, 2, nested=True)
        assert outer == [(1, 1), (1, int(CORES[name] == 1))]
        assert inner == [[(1, 1), (1, 1)]] * 2


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_sums_of_other_sizes(library, parts):
    for count in (1, 2, 3, 63, 4096):
        assert library.check_rounds(100, count, parts) == 0


def test_sums_over_many_rounds(library):
    assert library.check_rounds(ROUNDS, 64, 2) == 0


def test_two_callers_at_once(library):
    """A caller that finds the worker busy computes alone."""
    wrong = []
    callers = [threading.Thread(target=lambda: wrong.append(library.check_rounds(5000, 64, 2))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == [0, 0]


def test_program_ends_while_the_worker_sleeps(name, program):
    done = run(program, "rounds", 1000)
    assert (done.returncode, done.stdout) == (0, f"{CORES[name]} cores\n")


def test_a_late_worker_is_not_waited_for(name, program, folder, thread_sanitizer):
    """What a worker has not begun when the caller has nothing else to do, the caller does."""
    if name != "pthread":
        pytest.skip("POSIX threads only")
    one = {min(os.sched_getaffinity(0))}
    for built in (program, compiled(name, folder / "late-tsan", *thread_sanitizer)):
        command = [built, "late", "1000"]
        pinned = subprocess.run(command, env=PLAIN, timeout=60, preexec_fn=lambda: os.sched_setaffinity(0, one))
        assert pinned.returncode == 0


def test_children_start_a_worker_of_their_own(name, program):
    if name == "freertos":
        pytest.skip("FreeRTOS has no fork")
    assert run(program, "forks", 50).returncode == 0


def test_cancelled_threads_leave_the_worker_free(name, program):
    """MicroPython's unix port cancels Python's threads at exit; a worker that stays taken lets the process hang."""
    if name == "freertos":
        pytest.skip("FreeRTOS has no cancellation")
    assert run(program, "cancels", 500).returncode == 0


def test_handlers_that_jump_out_find_no_part_running(name, program):
    if name == "freertos":
        pytest.skip("FreeRTOS has no signals")
    assert run(program, "interrupts", 200).returncode == 0


def test_unloading_ends_the_worker(shared, name, tmp_path):
    if name == "freertos":
        pytest.skip("ESP-IDF unloads nothing")
    library = ffi.dlopen(str(shutil.copy(shared, tmp_path / "unloaded.so")))
    before = len(os.listdir("/proc/self/task"))
    library.ternary_use_cores(2)
    assert traced(library, 2)[0] == (1, 1)
    assert len(os.listdir("/proc/self/task")) == before + CORES[name] - 1
    ffi.dlclose(library)
    assert len(os.listdir("/proc/self/task")) == before


def test_thread_sanitizer(name, folder, thread_sanitizer):
    program = compiled(name, folder / f"{name}-tsan", *thread_sanitizer)
    for check in ("rounds", "callers"):
        done = run(program, check, 2000)
        assert done.returncode == 0, done.stderr
    raced = run(program, "race", 20)
    assert ("data race" in raced.stderr) == (CORES[name] == 2)


@pytest.fixture
def freertos(folder):
    """A separate, freshly loaded FreeRTOS library."""
    number = len(loaded)
    flags = build.SANITIZE if SANITIZED else ("-O2",)
    return load(compiled("freertos", folder / f"own-{number}.so", "-shared", "-fPIC", *flags))


def test_task_is_on_the_other_core_with_the_priority_of_micropython(freertos):
    assert freertos.ternary_use_cores(2) == 2
    created = freertos.fake_created
    assert (ffi.string(created.name), created.stack_bytes, created.priority) == (b"ternary", 6144, 1)
    assert created.core == 0
    assert traced(freertos, 2) == [(1, 1), (1, 0)]


def test_task_is_on_core_1_for_a_caller_on_core_0(freertos):
    in_thread(lambda: (freertos.fake_move_to_core(0), freertos.ternary_use_cores(2)))
    assert freertos.fake_created.core == 1


def test_a_caller_on_the_tasks_core_computes_alone(freertos):
    freertos.ternary_use_cores(2)
    results = in_thread(lambda: (freertos.fake_move_to_core(0), traced(freertos, 2)))
    assert results[1] == [(1, 1), (1, 1)]
    assert traced(freertos, 2) == [(1, 1), (1, 0)]


def test_notifications_of_the_caller_are_left_alone(freertos):
    """They wake MicroPython's task."""
    freertos.ternary_use_cores(2)
    task = freertos.xTaskGetCurrentTaskHandle()
    for _ in range(3):
        freertos.xTaskNotifyGive(task)
    assert freertos.check_rounds(100, 64, 2) == 0
    assert freertos.ulTaskNotifyTake(1, 0) == 3
    assert freertos.ulTaskNotifyTake(1, 0) == 0


def test_a_deleted_caller_leaves_the_worker_free(freertos):
    """A soft reset of MicroPython deletes threads, then calls ternary_worker_settle."""
    freertos.ternary_worker_settle()  # before there is a worker
    freertos.ternary_use_cores(2)
    ended = ffi.new("int32_t *")
    for _ in range(3):
        assert freertos.check_abandoned(ended) == 1
        assert ended[0] == 1
        assert traced(freertos, 2) == [(1, 1), (1, 0)]
    freertos.ternary_worker_settle()  # while it sleeps
    assert traced(freertos, 2) == [(1, 1), (1, 0)]


@pytest.mark.parametrize(
    ("port", "variables", "workers"),
    [
        ("unix", (), {"-DTERNARY_PARALLEL_PTHREAD"}),
        ("unix", ("TERNARY_PARALLEL=FREERTOS",), {"-DTERNARY_PARALLEL_FREERTOS"}),
        ("qemu", (), set()),
    ],
)
def test_makefiles_choose_one_worker(tmp_path, port, variables, workers):
    """tests/firmware/test_esp32_port.py checks builds with CMake."""
    (tmp_path / port).mkdir()
    (tmp_path / port / "Makefile").write_text(
        f"USERMOD_DIR := {build.SOURCE}\ninclude {build.SOURCE}/micropython.mk\nall:\n\t@echo $(CFLAGS_USERMOD)\n"
    )
    command = ["make", "-s", "-C", tmp_path / port, *variables]
    words = subprocess.run(command, env=PLAIN, capture_output=True, text=True, check=True).stdout.split()
    assert {word for word in words if "TERNARY_PARALLEL" in word} == workers
    assert ("-pthread" in words) == (port == "unix")


def test_the_host_simulator_has_threads():
    assert "-DTERNARY_PARALLEL_PTHREAD" in build.kernels().flags
