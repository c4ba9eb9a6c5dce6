// Weights to the Winograd domain: U = G w G^T, once per weight, in double precision. Bound by writing U.
#include "fastconv/conv/locality.inl.h"
#include "fastconv/winograd/place.inl.h"
#include "fastconv/winograd/transform.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// U = G w G^T of one channel (and tap along the depth), W filters at once, in double precision.
template <int MH, int MW, int W>
FC_INLINE void winograd_weight(const float* w, int64_t tap, float* u, int64_t element) {
    using H = Winograd1<MH>;
    using V = Winograd1<MW>;
    using D = typename Doubles<W>::D;
    using F = typename Doubles<W>::F;
    D t[H::kElements][V::kTaps];
    for (int s = 0; s < V::kTaps; ++s) {
        D g[H::kTaps];
        for (int i = 0; i < H::kTaps; ++i)
            g[i] = __builtin_convertvector(*reinterpret_cast<const F*>(w + (i * V::kTaps + s) * tap), D);
        for (int i = 0; i < H::kElements; ++i) {
            t[i][s] = g[0] * H::kG[i][0];
            for (int j = 1; j < H::kTaps; ++j) t[i][s] = t[i][s] + g[j] * H::kG[i][j];
        }
    }
    for (int i = 0; i < H::kElements; ++i)
        for (int s = 0; s < V::kElements; ++s) {
            D sum = t[i][0] * V::kG[s][0];
            for (int j = 1; j < V::kTaps; ++j) sum = sum + t[i][j] * V::kG[s][j];
            *reinterpret_cast<F*>(u + (i * V::kElements + s) * element) = __builtin_convertvector(sum, F);
        }
}

FC_INLINE int64_t f32_winograd_weight_tiles(const WinogradWeightArgs* a) {
    return a->G * ceil_div(a->K, kBlock) * ceil_div(a->R * a->C, 64);
}
FC_INLINE size_t f32_winograd_weight_scratch(const WinogradWeightArgs*) { return 0; }

// 64 channels of one block of filters. A last block that is packed half a vector wide becomes a vector here.
template <int MH, int MW>
FC_INLINE void winograd_weights(const WinogradWeightArgs* a, int64_t tile) {
    constexpr int W = kWidth / 2;
    constexpr int64_t taps = Winograd1<MH>::kTaps * Winograd1<MW>::kTaps;
    constexpr int64_t elements = Winograd1<MH>::kElements * Winograd1<MW>::kElements;
    const int64_t depth = a->R * a->C, parts = ceil_div(depth, 64), blocks = ceil_div(a->K, kBlock);
    const int64_t part = tile % parts, block = tile / parts % blocks, g = tile / (parts * blocks), k0 = block * kBlock;
    const int64_t left = min64(kBlock, a->K - k0), width = block_width(left), wide = left > kWidth ? kBlock : kWidth;
    const int64_t filters = winograd_filters(a->K), element = filters * depth;
    const float* packed = a->w + (g * packed_filters(a->K) + k0) * taps * depth;
    float* u = a->u + (g * elements * filters + k0) * depth;
    if (a->bits) {
        FewBits bits;
        for (int64_t t = 0; t < a->R * taps; ++t) {  // the channels of this part at every tap
            const int64_t r = t / taps, from = max64(part * 64, r * a->C), to = min64(part * 64 + 64, (r + 1) * a->C);
            const float* at = packed + (t * a->C + from - r * a->C) * width;
            for (int64_t i = 0; i < (to - from) * width; i += kWidth)
                bits.add(load_n<kWidth>(at + i, static_cast<int>(min64(kWidth, (to - from) * width - i))));
        }
        bits.store(a->bits + 3 * tile);
    }
    for (int64_t i = part * 64; i < min64(depth, part * 64 + 64); ++i) {
        const float* w = packed + (i / a->C * taps * a->C + i % a->C) * width;
        float* at = u + i * wide;
        for (int64_t k = 0; k < wide; k += W) {
            if (k < width) {
                winograd_weight<MH, MW, W>(w + k, a->C * width, at + k, element);
            } else {
                for (int64_t e = 0; e < elements; ++e)
                    for (int64_t lane = 0; lane < W; ++lane) at[e * element + k + lane] = 0;
            }
        }
    }
}

inline void f32_winograd_weight_run(const WinogradWeightArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        if (a->mh == 4) {
            winograd_weights<4, 4>(a, tile);
        } else if (a->mh == 2) {
            winograd_weights<2, 2>(a, tile);
        } else if (a->mw == 4) {
            winograd_weights<1, 4>(a, tile);
        } else {
            winograd_weights<1, 2>(a, tile);
        }
    }
}

}  // namespace
}  // namespace
