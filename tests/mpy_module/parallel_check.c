// SPDX-License-Identifier: MIT
// Checks of mpy_module/parallel.h for test_parallel.py: a library for cffi, and a program for signals, forks
// and ThreadSanitizer.

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE // setitimer

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "parallel.h"

enum { MAX_PARTS = 4, MAX_COUNT = 4096 };

// How often each part ran, and whether on the calling thread.
typedef struct {
    int32_t calls[MAX_PARTS], on_caller[MAX_PARTS];
} trace;

typedef struct {
    trace *outer, *inner; // inner: NULL, or one for each part of the outer
    size_t parts;
    pthread_t caller;
    int32_t meeting, begun; // parts that run at the same time, for which part 0 waits; those that have begun
} traced;

// A caller may run a part that no worker has begun: wait for the workers, but not for ever.
static void await_workers(traced *t) {
    for (int32_t wait = 0; wait < 2000; wait++) {
        for (int32_t i = 0; i < 100; i++) {
            if (__atomic_load_n(&t->begun, __ATOMIC_RELAXED) >= t->meeting) {
                return;
            }
            sched_yield();
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void trace_part(void *context, size_t part) {
    traced *t = context;
    __atomic_fetch_add(&t->begun, 1, __ATOMIC_RELAXED);
    if (part == 0) {
        await_workers(t);
    }
    t->outer->calls[part]++;
    t->outer->on_caller[part] = pthread_equal(pthread_self(), t->caller) != 0;
    if (t->inner != NULL) {
        traced nested = {.outer = t->inner + part, .parts = t->parts, .caller = pthread_self()};
        ternary_parallel(trace_part, &nested, t->parts);
    }
}

void check_trace(trace *outer, trace *inner, size_t parts) {
    traced t = {.outer = outer, .inner = inner, .parts = parts, .caller = pthread_self()};
    t.meeting = (int32_t)parts < ternary_cores() ? (int32_t)parts : ternary_cores();
    ternary_parallel(trace_part, &t, parts);
}

static void sleep_part(void *context, size_t part) {
    const struct timespec pause = {.tv_nsec = 50000000};
    (void)part;
    nanosleep(&pause, NULL);
    *(volatile int32_t *)context = 1;
}

// A caller deleted during ternary_parallel: a part runs and nobody waits for it. Returns whether the part was
// started, and in `ended` whether it had ended after ternary_worker_settle.
int32_t check_abandoned(int32_t *ended) {
    static int32_t done;
    done = 0;
    bool given = ternary_worker_give(sleep_part, &done, 2) != 0;
    ternary_worker_settle();
    *ended = done;
    return given;
}

typedef struct {
    const uint32_t *in;
    uint32_t *out, sums[MAX_PARTS];
    size_t count, parts;
    uint32_t round;
} sums;

static void sum_part(void *context, size_t part) {
    sums *s = context;
    uint32_t sum = 0;
    for (size_t i = s->count * part / s->parts; i < s->count * (part + 1) / s->parts; i++) {
        s->out[i] = s->in[i] * 3 + s->round;
        sum += s->out[i];
    }
    s->sums[part] = sum;
}

// Returns the number of rounds with a wrong element or sum; inputs change every round. count <= MAX_COUNT.
uint32_t check_rounds(uint32_t rounds, size_t count, size_t parts) {
    uint32_t wrong = 0, in[MAX_COUNT], out[MAX_COUNT];
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t expected = 0, sum = 0, different = 0;
        for (size_t i = 0; i < count; i++) {
            in[i] = (uint32_t)i * 2654435761U ^ round;
            out[i] = 0;
        }
        sums s = {.in = in, .out = out, .count = count, .parts = parts, .round = round};
        ternary_parallel(sum_part, &s, parts);
        for (size_t i = 0; i < count; i++) {
            uint32_t value = in[i] * 3 + round;
            different += out[i] != value;
            expected += value;
        }
        for (size_t part = 0; part < parts; part++) {
            sum += s.sums[part];
        }
        wrong += different != 0 || sum != expected;
    }
    return wrong;
}

// Whether part 1 runs on another thread if and only if there are two cores.
static bool placed_right(void) {
    trace t = {{0}, {0}};
    check_trace(&t, NULL, 2);
    return t.calls[0] == 1 && t.calls[1] == 1 && t.on_caller[0] && t.on_caller[1] == (ternary_cores() == 1);
}

static int run_rounds(uint32_t rounds) {
    return check_rounds(rounds, 64, 2) != 0 || !placed_right();
}

static int run_nested(uint32_t rounds) {
    trace outer = {{0}, {0}}, inner[MAX_PARTS] = {{{0}, {0}}};
    for (uint32_t round = 0; round < rounds; round++) {
        check_trace(&outer, inner, 2);
    }
    return !placed_right();
}

// Returns 0 if each part ran once, and the caller ran some that the worker had not begun. For a process with
// one processor, where the worker mostly has to wait for the caller.
static int run_late(uint32_t rounds) {
    int32_t taken = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        trace once = {{0}, {0}};
        traced t = {.outer = &once, .parts = 2, .caller = pthread_self()};
        ternary_parallel(trace_part, &t, 2);
        if (once.calls[0] != 1 || once.calls[1] != 1) {
            return 1;
        }
        taken += once.on_caller[1];
    }
    return taken == 0;
}

typedef struct {
    uint32_t number;
    int32_t begun; // number of parts
} shared;

// A data race that ThreadSanitizer must report: two parts write one number. Each part first waits until the
// other has begun, with relaxed order, so that the worker's locks do not order the two writes.
static void add_one(void *context, size_t part) {
    shared *s = context;
    (void)part;
    __atomic_fetch_add(&s->begun, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&s->begun, __ATOMIC_RELAXED) < ternary_cores()) {
        sched_yield();
    }
    s->number++;
}

static int run_race(uint32_t rounds) {
    for (uint32_t round = 0; round < rounds; round++) {
        shared s = {0, 0};
        ternary_parallel(add_one, &s, 2);
    }
    return 0;
}

typedef struct {
    uint32_t rounds, wrong;
} caller;

static void *call_rounds(void *argument) {
    caller *c = argument;
    c->wrong = check_rounds(c->rounds, 64, 2);
    return NULL;
}

// Two threads call at once.
static int run_callers(uint32_t rounds) {
    pthread_t thread;
    caller other = {.rounds = rounds};
    pthread_create(&thread, NULL, call_rounds, &other);
    uint32_t wrong = check_rounds(rounds, 64, 2);
    pthread_join(thread, NULL);
    return wrong != 0 || other.wrong != 0 || !placed_right();
}

// 0 if the process exits with status 0 within 20 s.
static int await_child(pid_t child) {
    for (int32_t wait = 0; wait < 20000; wait++) {
        int status;
        if (waitpid(child, &status, WNOHANG) == child) {
            return status;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return -1;
}

static int hammering = 1;

static void *hammer(void *wrong) {
    while (__atomic_load_n(&hammering, __ATOMIC_RELAXED)) {
        *(uint32_t *)wrong += check_rounds(100, 64, 2);
    }
    return NULL;
}

// Forks while another thread uses the worker; every child must be able to use its own worker.
static int run_forks(uint32_t forks) {
    pthread_t thread;
    uint32_t wrong = 0, failed = 0;
    pthread_create(&thread, NULL, hammer, &wrong);
    for (uint32_t i = 0; i < forks && failed == 0; i++) {
        pid_t child = fork();
        if (child == 0) {
            exit(check_rounds(50, 64, 2) != 0 || !placed_right());
        }
        failed += await_child(child) != 0;
    }
    __atomic_store_n(&hammering, 0, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    return wrong != 0 || failed != 0 || !placed_right();
}

static void *call_for_ever(void *argument) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); // as MicroPython's unix port
    __atomic_store_n((int *)argument, 1, __ATOMIC_RELAXED);
    for (;;) {
        check_rounds(100, 64, 2);
    }
    return NULL;
}

// Threads are cancelled wherever they are; whoever comes next finds the worker free.
static int run_cancels(uint32_t cancels) {
    for (uint32_t i = 0; i < cancels; i++) {
        pthread_t thread;
        int begun = 0;
        pthread_create(&thread, NULL, call_for_ever, &begun);
        while (!__atomic_load_n(&begun, __ATOMIC_RELAXED)) {
            sched_yield();
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000 * (i % 1000)}, NULL);
        pthread_cancel(thread);
        ternary_worker_settle();
        pthread_join(thread, NULL);
        if (!placed_right()) {
            return 1;
        }
    }
    return 0;
}

static pthread_t main_thread;
static sigjmp_buf back;
static volatile uint32_t jumps, strays, wrong_rounds;

static void jump(int number) {
    (void)number;
    if (!pthread_equal(pthread_self(), main_thread)) {
        strays++;
        return;
    }
    jumps++;
    siglongjmp(back, 1);
}

// A handler that jumps out, like that of MicroPython's unix port for SIGINT.
static int run_interrupts(uint32_t wanted) {
    struct sigaction action = {.sa_handler = jump};
    struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}};
    main_thread = pthread_self();
    sigsetjmp(back, 1);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (jumps < wanted) {
        wrong_rounds += check_rounds(10, MAX_COUNT, 2);
    }
    action.sa_handler = SIG_IGN;
    sigaction(SIGALRM, &action, NULL);
    return wrong_rounds != 0 || strays != 0 || !placed_right();
}

// parallel_check rounds|nested|late|race|callers|forks|cancels|interrupts NUMBER: status 0 if all is right.
int main(int count, char **arguments) {
    static const struct {
        const char *name;
        int (*run)(uint32_t);
    } checks[] = {
        {.name = "rounds", .run = run_rounds},   {.name = "nested", .run = run_nested},
        {.name = "late", .run = run_late},       {.name = "race", .run = run_race},
        {.name = "callers", .run = run_callers}, {.name = "forks", .run = run_forks},
        {.name = "cancels", .run = run_cancels}, {.name = "interrupts", .run = run_interrupts},
    };
    printf("%d cores\n", ternary_use_cores(2));
    fflush(stdout);
    for (size_t i = 0; count == 3 && i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (strcmp(arguments[1], checks[i].name) == 0) {
            return checks[i].run((uint32_t)atoi(arguments[2]));
        }
    }
    return 2;
}
