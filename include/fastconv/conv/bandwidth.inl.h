// What the memory at some distance can do: the slanted roofs of a roofline picture.
//
//   read: acc[0..7] += x[i ...], eight chains of kWidth lanes (an addition takes 3 to 4 cycles, two start per cycle)
//   copy: y[i ...] = x[i ...]
//
// A tile goes over a piece of memory of its own `iterations` times; how large the piece is says which level of the
// memory is measured. Bound by the loads (and stores) of that level.
#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kStreams = 8;

FC_INLINE int64_t f32_bandwidth_tiles(const BandwidthArgs* a) { return a->n; }
FC_INLINE size_t f32_bandwidth_scratch(const BandwidthArgs*) { return 0; }

inline float read_all(const float* x, int64_t floats, int64_t iterations) {
    Vf<kWidth> acc[kStreams];
#pragma GCC unroll 8
    for (int i = 0; i < kStreams; ++i) acc[i] = splat<kWidth>(0.0f);
    for (int64_t n = 0; n < iterations; ++n) {
        int64_t at = 0;
        for (; at + kStreams * kWidth <= floats; at += kStreams * kWidth) {
#pragma GCC unroll 8
            for (int i = 0; i < kStreams; ++i) acc[i] = acc[i] + load<kWidth>(x + at + i * kWidth);
        }
        for (; at < floats; at += kWidth)
            acc[0] = acc[0] + load_n<kWidth>(x + at, static_cast<int>(min64(kWidth, floats - at)));
    }
    float lanes[kWidth], sum = 0.0f;
    for (int i = 1; i < kStreams; ++i) acc[0] = acc[0] + acc[i];
    store<kWidth>(lanes, acc[0]);
    for (int i = 0; i < kWidth; ++i) sum += lanes[i];
    return sum;
}

inline void copy_all(const float* x, float* y, int64_t floats, int64_t iterations) {
    for (int64_t n = 0; n < iterations; ++n) {
        int64_t at = 0;
        for (; at + 4 * kWidth <= floats; at += 4 * kWidth) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) store<kWidth>(y + at + i * kWidth, load<kWidth>(x + at + i * kWidth));
        }
        for (; at < floats; at += kWidth) {
            const int left = static_cast<int>(min64(kWidth, floats - at));
            store_n<kWidth>(y + at, load_n<kWidth>(x + at, left), left);
        }
    }
}

inline void f32_bandwidth_run(const BandwidthArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const float* x = a->x + tile * a->floats;
        if (a->y == nullptr)
            a->out[tile] = read_all(x, a->floats, a->iterations);
        else
            copy_all(x, a->y + tile * a->floats, a->floats, a->iterations);
    }
}

}  // namespace
}  // namespace
