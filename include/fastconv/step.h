// A kernel as the tape sees it, and one bound step of a tape.
//
// Every argument structure starts with `int64_t n`, the batch of this run. `tiles` stores the batch and says into how
// many independent tiles the problem is cut; the cut depends on the problem alone, never on the number of threads, so
// results are bitwise the same for any number of threads. `run` works off the tiles [begin, end).
#ifndef FASTCONV_STEP_H
#define FASTCONV_STEP_H

#include <stddef.h>
#include <stdint.h>

typedef struct FcKernel {
    const char* name;
    int64_t (*tiles)(void* args, int64_t n);
    void (*run)(const void* args, int64_t begin, int64_t end, void* scratch);
    size_t (*scratch)(const void* args);  // bytes per thread, asked after tiles(args, planned batch)
} FcKernel;

typedef struct FcStep {
    const FcKernel* kernel;
    void* args;
    int64_t tiles;
} FcStep;

#endif
