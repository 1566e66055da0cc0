// SPDX-License-Identifier: MIT
// The worker as a POSIX thread, which waits on a condition variable between calls.
//
// Signals: MicroPython's unix port raises KeyboardInterrupt by a longjmp out of the handler of SIGINT. The
// worker always blocks all signals, the caller from ternary_worker_give to ternary_worker_wait, so that a
// handler cannot jump out while parts still use the caller's memory.
//
// Cancellation: at exit, the unix port cancels Python's threads, wherever they are. A thread that holds a
// lock of ours is not cancelled before it has released it, or all others would wait for ever.

#ifdef TERNARY_PARALLEL_PTHREAD

#define _POSIX_C_SOURCE 200809L // sigset_t and pthread_sigmask under -std=c99

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "parallel.h"

// How a thread received signals and cancellation before both were blocked.
typedef struct {
    sigset_t signals;
    int cancel_type, cancel_state;
} shield;

// Held from ternary_worker_give to ternary_worker_wait; protects these variables.
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static bool running, fork_handled;
static pthread_t thread;
static shield holder; // what the thread that holds `turn` restores

// Held briefly; protects the state that caller and worker share.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_worker = PTHREAD_COND_INITIALIZER;
static pthread_cond_t told_caller = PTHREAD_COND_INITIALIZER;
static bool pending, stopping;
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

static void *run_worker(void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    while (!stopping) {
        if (!pending) {
            pthread_cond_wait(&told_worker, &lock);
            continue;
        }
        pthread_mutex_unlock(&lock);
        given_work(given_context, 1); // not modified while `pending`
        pthread_mutex_lock(&lock);
        pending = false;
        pthread_cond_signal(&told_caller);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

// A fork waits until the worker is idle, so that locks and work are consistent in the child.
static void before_fork(void) {
    pthread_mutex_lock(&turn);
    pthread_mutex_lock(&lock);
}

static void after_fork(void) {
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&turn);
}

// A child has no worker thread, but condition variables that count one: reset both.
static void after_fork_in_child(void) {
    running = false;
    pthread_cond_init(&told_worker, NULL);
    pthread_cond_init(&told_caller, NULL);
    after_fork();
}

// Call with `turn` held, signals and cancellation blocked; the new thread inherits the signal mask.
static bool start(void) {
    if (!fork_handled) {
        fork_handled = pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0;
    }
    if (fork_handled && !running) {
        running = pthread_create(&thread, NULL, run_worker, NULL) == 0;
    }
    return running;
}

bool ternary_worker_start(void) {
    shield before = block();
    pthread_mutex_lock(&turn);
    bool started = start();
    pthread_mutex_unlock(&turn);
    restore(before);
    return started;
}

bool ternary_worker_give(ternary_work work, void *context) {
    shield before = block();
    if (pthread_mutex_trylock(&turn) == 0) {
        if (start()) {
            holder = before;
            pthread_mutex_lock(&lock);
            given_work = work;
            given_context = context;
            pending = true;
            pthread_cond_signal(&told_worker);
            pthread_mutex_unlock(&lock);
            return true;
        }
        pthread_mutex_unlock(&turn);
    }
    restore(before);
    return false;
}

// Some versions of glibc cancel a thread in pthread_cond_wait although it has disabled that: it leaves with
// `lock` and `turn` held, and the worker busy.
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

void ternary_worker_wait(void) {
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
        stopping = true;
        pthread_cond_signal(&told_worker);
        pthread_mutex_unlock(&lock);
        pthread_join(thread, NULL);
        stopping = running = false;
    }
    pthread_mutex_unlock(&turn);
}

#endif
