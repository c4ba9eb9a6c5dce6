// Which instruction sets this processor and its operating system offer (CPUID and XGETBV).
#ifndef FASTCONV_ISA_H
#define FASTCONV_ISA_H

#include <stdint.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define FC_X86 1
#endif

enum FcIsa { FC_PORTABLE = 0, FC_AVX2, FC_AVX512, FC_AVX512_BF16, FC_AMX, FC_ISA_COUNT };

static const char* const fc_isa_names[FC_ISA_COUNT] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};

// Bit i is set when level i can run here. Levels are nested: each one needs those below it.
static inline unsigned fc_detect_isa(void) {
    unsigned found = 1u << FC_PORTABLE;
#ifdef FC_X86
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    const bool fma = c & (1u << 12), osxsave = c & (1u << 27), avx = c & (1u << 28), f16c = c & (1u << 29);
    if (!(osxsave && avx && fma && f16c)) return found;
    unsigned xlo, xhi;
    __asm__ volatile("xgetbv" : "=a"(xlo), "=d"(xhi) : "c"(0));
    if ((xlo & 0x6) != 0x6) return found;
    unsigned b7, c7, d7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return found;
    const unsigned sub = a;
    if (!(b7 & (1u << 5)) || !(b7 & (1u << 3)) || !(b7 & (1u << 8))) return found;  // AVX2, BMI1, BMI2
    found |= 1u << FC_AVX2;
    const bool f = b7 & (1u << 16), dq = b7 & (1u << 17), bw = b7 & (1u << 30), vl = b7 & (1u << 31);
    if (!(f && dq && bw && vl) || (xlo & 0xe6) != 0xe6) return found;
    found |= 1u << FC_AVX512;
    if (sub < 1) return found;
    unsigned a71 = 0, b71, c71, d71;
    __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
    if (!(a71 & (1u << 5))) return found;
    found |= 1u << FC_AVX512_BF16;
    const bool amx_tile = d7 & (1u << 24), amx_bf16 = d7 & (1u << 22);
    if (amx_tile && amx_bf16 && (xlo & 0x60000) == 0x60000) found |= 1u << FC_AMX;
#endif
    return found;
}

#endif
