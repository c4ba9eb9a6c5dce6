// A team of threads works off a list of steps inside one parallel region.
//
// The tiles of a step are handed out in contiguous ranges by a counter, and the step is over when all tiles are done:
// nobody waits for a thread that has taken none, because it may not be running at all on a machine that others use as
// well. A range is half of a thread's share of what is left, so that the last ones are short and all threads end together
// (with eight equal ranges, two threads were 9 % of ResNet-50's time apart). A run of steps of one tile each is a single
// range. A thread that waits for tiles spins for some microseconds and then yields its processor again and again. (With a barrier of the OpenMP runtime between the steps, two threads
// and a third one busy on two processors, a training step was measured to take fifty times as long.)
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
    std::atomic<int64_t>* next;  // per step: the first tile that nobody has taken
    std::atomic<int64_t>* done;  // per step: tiles that are done
};

static inline void fc_team_reset(FcTeam* team, ptrdiff_t begin, ptrdiff_t end) {
    for (ptrdiff_t s = begin; s < end; ++s) {
        team->next[s].store(0, std::memory_order_relaxed);
        team->done[s].store(0, std::memory_order_relaxed);
    }
}

static inline void fc_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void fc_team_wait(const std::atomic<int64_t>& done, int64_t tiles) {
    for (int spins = 0; done.load(std::memory_order_acquire) < tiles; ++spins) {
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
        const int64_t tiles = steps[s].tiles;
        const int64_t all = stop > s ? 1 : tiles, least = all / (32 * members) + 1;
        int64_t first = team->next[s].load(std::memory_order_relaxed);
        while (first < all) {
            const int64_t share = (all - first) / (2 * members), count = share > least ? share : least;
            const int64_t last = first + count < all ? first + count : all;
            if (!team->next[s].compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
            if (stop > s) {
                for (ptrdiff_t i = s; i < stop; ++i)
                    if (steps[i].tiles) steps[i].kernel->run(steps[i].args, 0, 1, mine);
            } else {
                steps[s].kernel->run(steps[s].args, first, last, mine);
            }
            team->done[s].fetch_add(last - first, std::memory_order_acq_rel);
            first = team->next[s].load(std::memory_order_relaxed);
        }
        fc_team_wait(team->done[s], all);
        s = stop > s ? stop : s + 1;
    }
    fc_fp_leave(mode);
}

#endif
