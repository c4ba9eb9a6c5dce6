// What the FMA units can do: nothing but independent chains in registers, the roof that shares of the peak refer to.
//
//   acc[0..11] = acc * a + b, `iterations` times: 12 chains of kWidth lanes; no unit needs more (latency 4 cycles x 2 per
//   cycle = 8), and 12 + a + b fit into 16 registers. Bound by the throughput of the FMA units, no memory touched.
//
// A tile is one such run; the batch is the number of tiles. Lane i of the chains starts at i and is written out at the
// end, out[tile * 12 * kWidth + i], so that a test can check the arithmetic and a compiler cannot leave it out.
#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kChains = 12;

FC_INLINE int64_t f32_fma_peak_tiles(const PeakArgs* a) { return a->n; }
FC_INLINE size_t f32_fma_peak_scratch(const PeakArgs*) { return 0; }

inline void f32_fma_peak_run(const PeakArgs* p, int64_t begin, int64_t end, void*) {
    const Vf<kWidth> a = splat<kWidth>(static_cast<float>(p->a)), b = splat<kWidth>(static_cast<float>(p->b));
    for (int64_t tile = begin; tile < end; ++tile) {
        float* out = p->out + tile * kChains * kWidth;
        Vf<kWidth> acc[kChains];
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) {  // every lane starts elsewhere: equal chains would be computed once
            for (int k = 0; k < kWidth; ++k) out[i * kWidth + k] = static_cast<float>(i * kWidth + k);
            acc[i] = load<kWidth>(out + i * kWidth);
        }
        for (int64_t n = 0; n < p->iterations; ++n) {
#pragma GCC unroll 12
            for (int i = 0; i < kChains; ++i) acc[i] = mul_add<kWidth>(acc[i], a, b);
        }
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) store<kWidth>(out + i * kWidth, acc[i]);
    }
}

}  // namespace
}  // namespace
