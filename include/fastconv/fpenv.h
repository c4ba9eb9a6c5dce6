// Denormals are flushed during a run (they would cost a hundred cycles each) and the caller's mode is put back after it.
#ifndef FASTCONV_FPENV_H
#define FASTCONV_FPENV_H

#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

static inline uint64_t fc_fp_enter(void) {
#if defined(__SSE2__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr((mode & ~0x6000u) | 0x9fc0u);  // flush to zero, denormals are zero, round to nearest, exceptions masked
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (1u << 24)));
    return mode;
#else
    return 0;
#endif
}

static inline void fc_fp_leave(uint64_t mode) {
#if defined(__SSE2__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

#endif
