// Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011), and dropout by it. No state and no stored mask: a backward makes the same numbers again.
//
// Element e of the batch (its index in N, D, H, W, C order, whatever the strides) lies in block e / 64; a block takes 16
// counters, and element 16 * w + l of it is word w of counter 16 * block + l. So a vector of counters gives four vectors
// of elements in order, at any vector width. Key: the seed. Counter words: counter (48 bits), stream (16 bits), offset
// (64 bits). Bound by the 20 multiplications per counter.
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

typedef Vu<kWidth> U;
typedef uint64_t U64 __attribute__((vector_size(kWidth * 4), may_alias));

// The 64-bit products of the even lanes.
FC_INLINE U64 mul_even(U64 a, uint32_t m) {
#if defined(__AVX512F__)
    // masked, because GCC 12 warns of an uninitialised variable in its own header's plain form
    return (U64)_mm512_maskz_mul_epu32(0xff, (__m512i)a, _mm512_set1_epi64(m));
#elif defined(__AVX2__)
    return (U64)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(m));
#elif defined(__SSE2__)
    return (U64)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(m));
#else
    return (a & 0xffffffffu) * static_cast<uint64_t>(m);
#endif
}

FC_INLINE void multiply(U a, uint32_t m, U* low, U* high) {
    const U64 even = mul_even((U64)a, m), odd = mul_even((U64)a >> 32, m);
    *low = (U)((even & 0xffffffffu) | (odd << 32));
    *high = (U)((even >> 32) | (odd & 0xffffffff00000000u));
}

// c: the words of kWidth counters; replaced by their random words.
FC_INLINE void philox(U (&c)[4], uint64_t key) {
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        U low0, high0, low1, high1;
        multiply(c[0], 0xD2511F53u, &low0, &high0);
        multiply(c[2], 0xCD9E8D57u, &low1, &high1);
        c[0] = high1 ^ c[1] ^ k0;
        c[2] = high0 ^ c[3] ^ k1;
        c[1] = low1;
        c[3] = low0;
    }
}

constexpr int64_t kRandomBlock = 64;
alignas(64) const uint32_t lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// The 64 random words of a block. A block's 16 counters share all but their low 4 bits: no carry.
FC_INLINE void random_block(const FcRandomState* state, int64_t stream, int64_t block, uint32_t* words) {
    const uint64_t counter = static_cast<uint64_t>(block) * 16;
    const uint32_t high = static_cast<uint32_t>(counter >> 32 & 0xffff) | static_cast<uint32_t>(stream << 16);
    for (int l = 0; l < 16; l += kWidth) {
        U c[4] = {(U)load<kWidth>(reinterpret_cast<const int32_t*>(lane_numbers) + l) + static_cast<uint32_t>(counter),
                  U{} + high, U{} + static_cast<uint32_t>(state->offset),
                  U{} + static_cast<uint32_t>(state->offset >> 32)};
        philox(c, state->seed);
        for (int w = 0; w < 4; ++w)
            store<kWidth>(reinterpret_cast<int32_t*>(words) + 16 * w + l, (Vi<kWidth>)c[w]);
    }
}

// ---- dropout ------------------------------------------------------------------------------------------------------

constexpr int64_t kDropoutTile = 128 * kRandomBlock;

FC_INLINE int64_t f32_dropout_tiles(const DropoutArgs* a) { return ceil_div(a->n * a->pixels * a->C, kDropoutTile); }
FC_INLINE size_t f32_dropout_scratch(const DropoutArgs*) { return 0; }

inline void f32_dropout_run(const DropoutArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t total = a->n * a->pixels * a->C, last = min64(total, end * kDropoutTile);
    const double limit = a->p * 4294967296.0 + 0.5;  // an element is dropped where its word is below
    const uint32_t threshold = limit >= 4294967295.0 ? 0xffffffffu : static_cast<uint32_t>(limit);
    const Vf<kWidth> scale = splat<kWidth>(a->p < 1.0 ? static_cast<float>(1.0 / (1.0 - a->p)) : 0.0f);
    for (int64_t e0 = begin * kDropoutTile; e0 < last; e0 += kRandomBlock) {
        alignas(64) uint32_t words[kRandomBlock];
        alignas(64) float mask[kRandomBlock];
        random_block(a->state, a->stream, e0 / kRandomBlock, words);
        for (int i = 0; i < kRandomBlock; i += kWidth) {
            const U w = (U)load<kWidth>(reinterpret_cast<const int32_t*>(words) + i);
            store<kWidth>(mask + i, w < U{} + threshold ? Vf<kWidth>{} : scale);
        }
        const int64_t e1 = min64(last, e0 + kRandomBlock);
        for (int64_t e = e0; e < e1;) {  // what lies next to each other in both operands
            const int64_t p = a->ldx == a->C && a->ldy == a->C ? 0 : e / a->C, c = e - p * a->C;
            const int64_t count = p || a->ldx != a->C || a->ldy != a->C ? min64(e1 - e, a->C - c) : e1 - e;
            const float *x = a->x + p * a->ldx + c, *m = mask + (e - e0);
            float* y = a->y + p * a->ldy + c;
            for (int64_t i = 0; i < count; i += kWidth) {
                const int n = static_cast<int>(min64(kWidth, count - i));
                store_n<kWidth>(y + i, load_n<kWidth>(x + i, n) * load_n<kWidth>(m + i, n), n);
            }
            e += count;
        }
    }
}

// The first step of a forward that draws random numbers; one tile whatever the batch. The source is shared by all
// engines, and those of two threads must not get the same offset.
FC_INLINE int64_t random_draw_tiles(const DrawArgs*) { return 1; }
FC_INLINE size_t random_draw_scratch(const DrawArgs*) { return 0; }
inline void random_draw_run(const DrawArgs* a, int64_t, int64_t, void*) {
    a->state->seed = a->source->seed;
    a->state->offset = __atomic_fetch_add(&a->source->offset, 1, __ATOMIC_RELAXED);
}

}  // namespace
}  // namespace
