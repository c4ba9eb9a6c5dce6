// Whether the OpenMP runtime will get its threads. Where one of them cannot be created (a limit on processes, on memory) libgomp
// ends the process; so they are tried before a team grows.
#ifndef FASTCONV_THREADS_H
#define FASTCONV_THREADS_H

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

#include <atomic>
#include <new>

// The stack that OMP_STACKSIZE asks for, in bytes; 0 where it does not.
static inline size_t fc_stack_size(void) {
    const char* text = getenv("OMP_STACKSIZE");
    if (!text) text = getenv("GOMP_STACKSIZE");
    if (!text) return 0;
    char* end = NULL;
    const unsigned long number = strtoul(text, &end, 10);
    while (*end == ' ') ++end;
    const int shift = *end == 'B' || *end == 'b' ? 0 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 10;
    return number > (size_t)-1 >> shift ? 0 : (size_t)number << shift;
}

static inline void* fc_wait_for(void* gate) {
    while (!static_cast<std::atomic<int>*>(gate)->load(std::memory_order_acquire)) sched_yield();
    return NULL;
}

// Whether `count` threads can exist at once beside those that there are: 0, or the error of pthread_create.
static inline int fc_try_threads(int count) {
    pthread_t* threads = new (std::nothrow) pthread_t[(size_t)count];
    if (!threads) return 12;  // ENOMEM
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    const size_t stack = fc_stack_size();
    if (stack) pthread_attr_setstacksize(&attributes, stack);  // what is too small is refused here as by the runtime
    std::atomic<int> gate(0);
    int error = 0, made = 0;
    while (made < count && !(error = pthread_create(&threads[made], &attributes, fc_wait_for, &gate))) ++made;
    gate.store(1, std::memory_order_release);
    for (int i = 0; i < made; ++i) pthread_join(threads[i], NULL);
    pthread_attr_destroy(&attributes);
    delete[] threads;
    return error;
}

// The same for a team of the calling thread, whose last one is there still: its pool keeps those threads.
static inline int fc_try_team(int members) {
    static thread_local int last = 1;
    const int error = members > last ? fc_try_threads(members - 1) : 0;
    if (!error) last = members;
    return error;
}

#endif
