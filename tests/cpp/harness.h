// What the tests of the headers share: running a kernel, numbers, comparison with sums in double. The headers of some families
// name the same things differently: those are included where they are tested.
#ifndef FASTCONV_TESTS_HARNESS_H
#define FASTCONV_TESTS_HARNESS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fastconv/conv/args.h"
#include "fastconv/depthwise/args.h"
#include "fastconv/elementwise/args.h"
#include "fastconv/fft/args.h"
#include "fastconv/im2col/args.h"
#include "fastconv/conv/args_linear.h"
#include "fastconv/loss/args.h"
#include "fastconv/norm/args.h"
#include "fastconv/planes/args.h"
#include "fastconv/pool/args.h"
#include "fastconv/winograd/args.h"
#include "fastconv/dispatch.h"
#include "fastconv/fpenv.h"

// The last element is the last before a page that nobody may touch.
template <class T>
struct Guarded {
    typedef T value_type;
    Guarded() = default;
    template <class U>
    explicit Guarded(const Guarded<U>&) {}

    static size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
    static size_t whole(size_t count) { return (count * sizeof(T) + page() - 1) / page() * page(); }
    T* allocate(size_t count) {
        void* p = mmap(nullptr, whole(count) + page(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(static_cast<char*>(p) + whole(count), page(), PROT_NONE)) abort();
        return reinterpret_cast<T*>(static_cast<char*>(p) + whole(count)) - count;
    }
    void deallocate(T* p, size_t count) {
        munmap(reinterpret_cast<char*>(p + count) - whole(count), whole(count) + page());
    }
    bool operator==(const Guarded&) const { return true; }
    bool operator!=(const Guarded&) const { return false; }
};

typedef std::vector<float, Guarded<float>> Floats;
typedef std::vector<uint16_t, Guarded<uint16_t>> Halves;
typedef std::vector<double> Doubles;

// The level under test: its kernels, the width of its vectors, which kernels have run, what went wrong.
struct Bench {
    int level;
    int64_t width;
    const FcKernel* kernels[FC_KERNEL_COUNT];
    bool ran[FC_KERNEL_COUNT] = {};
    int checks = 0, failures = 0;
    uint32_t state = 1;

    explicit Bench(int isa) : level(isa), width(isa >= FC_AVX512 ? 16 : isa == FC_AVX2 ? 8 : 4) {
        fc_resolve(level, kernels);
    }

    // Runs a kernel over a batch, its tiles in two uneven ranges, last one first; scratch starts as NaN.
    void run(int id, void* args, int64_t n) {
        const FcKernel* kernel = kernels[id];
        const int64_t tiles = kernel->tiles(args, n), cut = tiles / 3;
        const size_t bytes = (kernel->scratch(args) + 127) / 64 * 64;
        void* scratch = aligned_alloc(64, bytes);
        memset(scratch, 0xff, bytes);
        const uint64_t mode = fc_fp_enter();
        if (tiles) kernel->run(args, cut, tiles, scratch);
        if (cut) kernel->run(args, 0, cut, scratch);
        fc_fp_leave(mode);
        free(scratch);
        ran[id] = true;
    }

    // Whole numbers from -most to most: their products and sums are exact in float, in any order.
    Floats whole(int64_t count, int most = 15) {
        Floats v(static_cast<size_t>(count));
        for (float& x : v) x = static_cast<float>(static_cast<int>(next() % (2u * most + 1)) - most);
        return v;
    }
    Floats uniform(int64_t count, float low = -1, float high = 1) {
        Floats v(static_cast<size_t>(count));
        for (float& x : v) x = low + (high - low) * static_cast<float>(next()) * 0x1p-24f;
        return v;
    }
    uint32_t next() {
        state = state * 1664525u + 1013904223u;
        return state >> 8;
    }

    // got is what was wanted, exactly (tolerance 0), or with that relative error in the L2 norm; NaN is never right.
    void expect(const std::string& what, const float* got, const Doubles& want, double tolerance = 0) {
        double error = 0, norm = 0;
        for (size_t i = 0; i < want.size(); ++i) {
            error += (got[i] - want[i]) * (got[i] - want[i]);
            norm += want[i] * want[i];
        }
        ++checks;
        if (want.empty() || !(sqrt(error) <= tolerance * sqrt(norm))) {
            ++failures;
            printf("FAILED %s: relative error %.3g, allowed %.3g, %zu values\n", what.c_str(), sqrt(error / norm), tolerance,
                   want.size());
        }
    }
    void expect(const std::string& what, bool right) {
        ++checks;
        if (right) return;
        ++failures;
        printf("FAILED %s\n", what.c_str());
    }
    void expect(const std::string& what, const Floats& got, const Doubles& want, double tolerance = 0) {
        if (got.size() < want.size()) abort();
        expect(what, got.data(), want, tolerance);
    }
};

static inline Floats poison(int64_t count) { return Floats(static_cast<size_t>(count), NAN); }

void test_convolution(Bench& b);
void test_transforms(Bench& b);
void test_layers(Bench& b);
void test_arrays(Bench& b);
void test_pictures(Bench& b);

#endif
