// A team of threads works off a list of steps inside one parallel region.
//
// The tiles of a step are handed out in contiguous ranges by a counter; between steps the team meets at a barrier. A run
// of steps of one tile each is one thread's, with a single barrier behind it. A thread that waits spins for some
// microseconds and then yields its processor again and again: on a machine that others use as well, the thread that it
// waits for may not be running. (The OpenMP runtime's own barriers spin for milliseconds: with two busy processors and
// three runnable threads a training step was measured to take fifty times as long.)
#ifndef FASTCONV_TEAM_H
#define FASTCONV_TEAM_H

#include <sched.h>
#include <stdint.h>

#include <atomic>

#include "fastconv/fpenv.h"
#include "fastconv/step.h"
#ifdef _OPENMP
#include <omp.h>
#endif

struct FcTeam {
    std::atomic<int> arrived;
    std::atomic<int> round;
    std::atomic<int64_t>* next;  // per step: the first range of tiles that nobody has taken
};

static inline void fc_team_reset(FcTeam* team, ptrdiff_t begin, ptrdiff_t end) {
    team->arrived.store(0, std::memory_order_relaxed);
    team->round.store(0, std::memory_order_relaxed);
    for (ptrdiff_t s = begin; s < end; ++s) team->next[s].store(0, std::memory_order_relaxed);
}

static inline void fc_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void fc_team_barrier(FcTeam* team, int members) {
    const int round = team->round.load(std::memory_order_relaxed);
    if (team->arrived.fetch_add(1, std::memory_order_acq_rel) == members - 1) {
        team->arrived.store(0, std::memory_order_relaxed);
        team->round.store(round + 1, std::memory_order_release);
        return;
    }
    for (int spins = 0; team->round.load(std::memory_order_acquire) == round; ++spins) {
        if (spins < 1000) {
            fc_pause();
        } else {
            sched_yield();
        }
    }
}

// One thread's part in the steps [begin, end). All members of the team call this.
static inline void fc_team_work(FcTeam* team, const FcStep* steps, ptrdiff_t begin, ptrdiff_t end, char* scratch,
                                size_t stride) {
#ifdef _OPENMP
    const int members = omp_get_num_threads(), me = omp_get_thread_num();
#else
    const int members = 1, me = 0;
#endif
    char* mine = scratch + stride * (size_t)me;
    const uint64_t mode = fc_fp_enter();
    for (ptrdiff_t s = begin; s < end;) {
        ptrdiff_t stop = s;
        while (stop < end && steps[stop].tiles <= 1) ++stop;
        if (stop > s) {
            if (team->next[s].fetch_add(1, std::memory_order_relaxed) == 0)
                for (ptrdiff_t i = s; i < stop; ++i)
                    if (steps[i].tiles) steps[i].kernel->run(steps[i].args, 0, 1, mine);
        } else {
            stop = s + 1;
            const int64_t tiles = steps[s].tiles, ranges = tiles < 4 * members ? tiles : 4 * members;
            int64_t r;
            while ((r = team->next[s].fetch_add(1, std::memory_order_relaxed)) < ranges)
                steps[s].kernel->run(steps[s].args, tiles * r / ranges, tiles * (r + 1) / ranges, mine);
        }
        s = stop;
        if (s < end) fc_team_barrier(team, members);
    }
    fc_fp_leave(mode);
}

#endif
