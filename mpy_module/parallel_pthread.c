// SPDX-License-Identifier: MIT
// Workers as POSIX threads. Between calls they look for work for some microseconds, since a network's
// operations follow closely and waking a thread takes longer than some of them, then wait on a condition
// variable. So does the caller at the end of a call. A part that no worker has begun by then is the caller's:
// the system may run a worker milliseconds after it was woken, if other programs hold its processor.
//
// Signals: MicroPython's unix port raises KeyboardInterrupt by a longjmp out of the handler of SIGINT. The
// workers always block all signals, the caller from ternary_worker_give to ternary_worker_wait, so that a
// handler cannot jump out while parts still use the caller's memory.
//
// Cancellation: at exit, the unix port cancels Python's threads, wherever they are. A thread that holds a
// lock of ours is not cancelled before it has released it, or all others would wait for ever.

#ifdef TERNARY_PARALLEL_PTHREAD

#define _POSIX_C_SOURCE 200809L // sigset_t and pthread_sigmask under -std=c99

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "atomic.h"
#include "parallel.h"

// How a thread received signals and cancellation before both were blocked.
typedef struct {
    sigset_t signals;
    int cancel_type, cancel_state;
} shield;

// Held from ternary_worker_give to ternary_worker_wait; protects these variables.
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static bool fork_handled;
static int32_t running; // workers
static pthread_t threads[TERNARY_MAX_CORES - 1];
static shield holder; // what the thread that holds `turn` restores

// Held briefly; protects the state that caller and workers share. `told`, `pending` and `stopping` are also
// looked at without it.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_workers = PTHREAD_COND_INITIALIZER;
static pthread_cond_t told_caller = PTHREAD_COND_INITIALIZER;
enum { IDLE, GIVEN, BEGUN };
static int32_t told[TERNARY_MAX_CORES - 1]; // each worker's part: one of the above
static int32_t pending, stopping;           // parts that have not ended; whether all workers shall end
static ternary_work given_work;
static void *given_context;

static shield block(void) {
    sigset_t all;
    shield before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before.signals); // first: a handler may jump out in between
    // The type, too: glibc's handler of a cancellation that is under way looks at it, and not at the state.
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &before.cancel_type);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before.cancel_state);
    return before;
}

static void restore(shield before) {
    pthread_setcancelstate(before.cancel_state, NULL);
    pthread_setcanceltype(before.cancel_type, NULL);
    pthread_sigmask(SIG_SETMASK, &before.signals, NULL);
}

enum { LOOKS = 2000 }; // some 20 us

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Waits a little for one of two words to become `wanted`, true or false.
static void look(const int32_t *word, const int32_t *other, bool wanted) {
    for (int32_t i = 0; i < LOOKS; i++) {
        if ((TERNARY_LOAD(word) != 0) == wanted || (TERNARY_LOAD(other) != 0) == wanted) {
            return;
        }
        pause_briefly();
    }
}

static void *run_worker(void *number) {
    int32_t *mine = number;
    const size_t part = (size_t)(mine - told) + 1;
    bool looked = false;
    pthread_mutex_lock(&lock);
    while (!stopping) {
        if (!*mine && !looked) {
            pthread_mutex_unlock(&lock);
            look(mine, &stopping, true);
            looked = true;
            pthread_mutex_lock(&lock);
        } else if (!*mine) {
            pthread_cond_wait(&told_workers, &lock);
            looked = false; // if the caller has its part back already, the next operation follows closely
        } else {
            TERNARY_STORE(mine, BEGUN);
            pthread_mutex_unlock(&lock);
            given_work(given_context, part); // not modified while `pending`
            looked = false;
            pthread_mutex_lock(&lock);
            TERNARY_STORE(mine, IDLE);
            TERNARY_STORE(&pending, pending - 1);
            if (!pending) {
                pthread_cond_signal(&told_caller);
            }
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

// A fork waits until the workers are idle, so that locks and work are consistent in the child.
static void before_fork(void) {
    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&turn);
}

// A child has no worker threads, but condition variables that count them: reset both.
static void after_fork_in_child(void) {
    running = 0;
    pthread_cond_init(&told_workers, NULL);
    pthread_cond_init(&told_caller, NULL);
    after_fork();
}

#ifndef TERNARY_PROCESSORS // unless the build states them
#define TERNARY_PROCESSORS sysconf(_SC_NPROCESSORS_ONLN)
#endif

// Workers that there can be: one beside the caller for each other processor, and at least one.
static int32_t most_workers(void) {
    long processors = TERNARY_PROCESSORS;
    return processors > TERNARY_MAX_CORES ? TERNARY_MAX_CORES - 1
           : processors > 2               ? (int32_t)processors - 1
                                          : 1;
}

// Call with `turn` held, signals and cancellation blocked; new threads inherit the signal mask. Returns the
// number of workers.
static int32_t start(int32_t count) {
    if (!fork_handled) {
        fork_handled = pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0;
    }
    while (fork_handled && running < count && running < most_workers()) {
        if (pthread_create(threads + running, NULL, run_worker, told + running) != 0) {
            break;
        }
        running++;
    }
    return running < count ? running : count;
}

int32_t ternary_worker_start(int32_t count) {
    shield before = block();
    pthread_mutex_lock(&turn);
    int32_t started = start(count);
    pthread_mutex_unlock(&turn);
    restore(before);
    return started;
}

size_t ternary_worker_give(ternary_work work, void *context, size_t parts) {
    shield before = block();
    if (pthread_mutex_trylock(&turn) == 0) {
        int32_t given = start(parts < TERNARY_MAX_CORES ? (int32_t)parts - 1 : TERNARY_MAX_CORES - 1);
        if (given) {
            holder = before;
            pthread_mutex_lock(&lock);
            given_work = work;
            given_context = context;
            TERNARY_STORE(&pending, given);
            for (int32_t i = 0; i < given; i++) {
                TERNARY_STORE(told + i, GIVEN);
            }
            pthread_cond_broadcast(&told_workers);
            pthread_mutex_unlock(&lock);
            return (size_t)given;
        }
        pthread_mutex_unlock(&turn);
    }
    restore(before);
    return 0;
}

// Some versions of glibc cancel a thread in pthread_cond_wait although it has disabled that: it leaves with
// `lock` and `turn` held, and workers busy.
static void leave(void *unused) {
    (void)unused;
    while (pending) {
        pthread_mutex_unlock(&lock);
        sched_yield();
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&turn);
}

// Runs the parts that no worker has begun.
static void run_waiting_parts(void) {
    for (int32_t i = 0; i < running; i++) {
        pthread_mutex_lock(&lock);
        const bool waiting = told[i] == GIVEN;
        if (waiting) {
            TERNARY_STORE(told + i, IDLE);
        }
        pthread_mutex_unlock(&lock);
        if (waiting) {
            given_work(given_context, (size_t)i + 1);
            pthread_mutex_lock(&lock);
            TERNARY_STORE(&pending, pending - 1);
            pthread_mutex_unlock(&lock);
        }
    }
}

void ternary_worker_wait(void) {
    run_waiting_parts();
    look(&pending, &pending, false);
    pthread_mutex_lock(&lock);
    pthread_cleanup_push(leave, NULL);
    while (pending) {
        pthread_cond_wait(&told_caller, &lock);
    }
    pthread_cleanup_pop(0);
    pthread_mutex_unlock(&lock);
    shield before = holder;
    pthread_mutex_unlock(&turn);
    restore(before);
}

// Whoever holds `turn` releases it, cancelled or not.
void ternary_worker_settle(void) {
    shield before = block();
    pthread_mutex_lock(&turn);
    pthread_mutex_unlock(&turn);
    restore(before);
}

// Runs at exit, and before the shared library is unloaded.
__attribute__((destructor)) static void stop(void) {
    pthread_mutex_lock(&turn);
    if (running) {
        pthread_mutex_lock(&lock);
        TERNARY_STORE(&stopping, 1);
        pthread_cond_broadcast(&told_workers);
        pthread_mutex_unlock(&lock);
        while (running) {
            pthread_join(threads[--running], NULL);
        }
        TERNARY_STORE(&stopping, 0);
    }
    pthread_mutex_unlock(&turn);
}

#endif
