// One output element from one input element, or from a gradient and what the forward kept: activations and copies.
//
// A tile is kMapTile elements of one flat run where no operand has gaps (ld == C everywhere), otherwise as many whole
// pixels as come to that. Tails go through the same vector code as the rest, so an element's bits do not depend on
// where it lies. The simple ones are bound by memory, those with an exponential by arithmetic.
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

typedef Vf<kWidth> V;

constexpr int64_t kMapTile = 16384;

FC_INLINE V sp(float s) { return splat<kWidth>(s); }
FC_INLINE V fma(V a, V b, V c) { return mul_add<kWidth>(a, b, c); }

FC_INLINE bool map_is_flat(const MapArgs* a) {
    return (!a->x || a->ldx == a->C) && a->ldy == a->C && (!a->z || a->ldz == a->C);
}
FC_INLINE int64_t map_pixels_per_tile(const MapArgs* a) { return max64(1, kMapTile / max64(1, a->C)); }
FC_INLINE int64_t map_pixels(const MapArgs* a) { return (a->fixed_n ? a->fixed_n : a->n) * a->pixels; }
FC_INLINE int64_t map_tiles(const MapArgs* a) {
    const int64_t pixels = map_pixels(a);
    return map_is_flat(a) ? ceil_div(pixels * a->C, kMapTile) : ceil_div(pixels, map_pixels_per_tile(a));
}

// Calls row(element offsets in x, z and y, count) for the runs of the tiles.
template <class Row>
FC_INLINE void map_rows(const MapArgs* a, int64_t begin, int64_t end, const Row& row) {
    const int64_t pixels = map_pixels(a);
    if (map_is_flat(a)) {
        const int64_t first = begin * kMapTile;
        row(first, first, first, min64(pixels * a->C, end * kMapTile) - first);
        return;
    }
    const int64_t per = map_pixels_per_tile(a), last = min64(pixels, end * per);
    for (int64_t p = begin * per; p < last; ++p) row(p * a->ldx, p * a->ldz, p * a->ldy, a->C);
}

template <class F>
FC_INLINE void map_one(const MapArgs* a, int64_t begin, int64_t end) {
    const F f(a);
    map_rows(a, begin, end, [&](int64_t ox, int64_t, int64_t oy, int64_t count) {
        const float* x = a->x + ox;
        float* y = a->y + oy;
        int64_t i = 0;
        for (; i + kWidth <= count; i += kWidth) store<kWidth>(y + i, f(load<kWidth>(x + i)));
        const int tail = static_cast<int>(count - i);
        if (tail) store_n<kWidth>(y + i, f(load_n<kWidth>(x + i, tail)), tail);
    });
}

template <class F>
FC_INLINE void map_two(const MapArgs* a, int64_t begin, int64_t end) {
    const F f(a);
    map_rows(a, begin, end, [&](int64_t ox, int64_t oz, int64_t oy, int64_t count) {
        const float *x = a->x + ox, *z = a->z + oz;
        float* y = a->y + oy;
        int64_t i = 0;
        for (; i + kWidth <= count; i += kWidth)
            store<kWidth>(y + i, f(load<kWidth>(x + i), load<kWidth>(z + i)));
        const int tail = static_cast<int>(count - i);
        if (tail) store_n<kWidth>(y + i, f(load_n<kWidth>(x + i, tail), load_n<kWidth>(z + i, tail)), tail);
    });
}

#define FC_MAP(name, how, F)                                                                        \
    FC_INLINE int64_t name##_tiles(const MapArgs* a) { return map_tiles(a); }                       \
    FC_INLINE size_t name##_scratch(const MapArgs*) { return 0; }                                   \
    inline void name##_run(const MapArgs* a, int64_t begin, int64_t end, void*) { how<F>(a, begin, end); }

// A function without constants, and one with a and b. x is the input, or the gradient g; z is what the forward kept.
#define FC_ONE(name, F, body)                                                                       \
    struct F {                                                                                      \
        explicit F(const MapArgs*) {}                                                               \
        FC_INLINE V operator()(V x) const { body }                                                  \
    };                                                                                              \
    FC_MAP(name, map_one, F)
#define FC_ONE_AB(name, F, body)                                                                    \
    struct F {                                                                                      \
        float a, b;                                                                                 \
        explicit F(const MapArgs* m) : a(static_cast<float>(m->a)), b(static_cast<float>(m->b)) {}  \
        FC_INLINE V operator()(V x) const { body }                                                  \
    };                                                                                              \
    FC_MAP(name, map_one, F)
#define FC_TWO(name, F, body)                                                                       \
    struct F {                                                                                      \
        explicit F(const MapArgs*) {}                                                               \
        FC_INLINE V operator()(V g, V z) const { body }                                             \
    };                                                                                              \
    FC_MAP(name, map_two, F)
#define FC_TWO_AB(name, F, body)                                                                    \
    struct F {                                                                                      \
        float a, b;                                                                                 \
        explicit F(const MapArgs* m) : a(static_cast<float>(m->a)), b(static_cast<float>(m->b)) {}  \
        FC_INLINE V operator()(V g, V z) const { body }                                             \
    };                                                                                              \
    FC_MAP(name, map_two, F)

FC_ONE(f32_copy, Copy, return x;)
FC_ONE_AB(f32_scale, Scale, return fma(x, sp(a), sp(b));)

// Every comparison is written so that NaN ends up where PyTorch puts it, and so that a denormal, which counts as zero during a
// run, comes out as zero where it comes out at all.
FC_ONE(f32_relu, Relu, return vmax<kWidth>(V{}, x);)
FC_TWO(f32_relu_backward, ReluBackward, return z <= V{} ? V{} : g;)  // z: output
FC_ONE_AB(f32_leaky_relu, LeakyRelu, (void)b; return x > V{} ? x : x * a;)
FC_TWO_AB(f32_leaky_relu_backward, LeakyReluBackward,  // z: input, or output where a >= 0
          (void)b; return z > V{} ? g : g * a;)
FC_ONE_AB(f32_clip, Clip, return clamp<kWidth>(x, a, b);)
FC_TWO_AB(f32_clip_backward, ClipBackward,  // z: output; 0 on the bounds
          const V inside = z < sp(b) ? g : V{}; return z > sp(a) ? inside : V{};)

FC_ONE(f32_sigmoid, Sigmoid, return vsigmoid<kWidth>(x);)
FC_TWO(f32_sigmoid_backward, SigmoidBackward, return g * (z * (1.0f - z));)  // z: output
FC_ONE(f32_tanh, Tanh, return vtanh<kWidth>(x);)
FC_TWO(f32_tanh_backward, TanhBackward, return g * fma(-z, z, sp(1.0f));)  // z: output
FC_ONE_AB(f32_elu, Elu, (void)b; return x > V{} ? x : a * vexpm1_negative<kWidth>(x);)
FC_TWO_AB(f32_elu_backward, EluBackward, (void)b; return z > V{} ? g : g * (z + a);)  // z: output, a >= 0

// The rest goes back from the input.
FC_ONE(f32_silu, Silu, return x / (1.0f + vexp<kWidth>(-x));)
FC_TWO(f32_silu_backward, SiluBackward, const V s = vsigmoid<kWidth>(z);
       return g * (s * fma(z, 1.0f - s, sp(1.0f)));)
FC_ONE(f32_hardsigmoid, HardSigmoid, return clamp<kWidth>(x + 3.0f, 0.0f, 6.0f) / 6.0f;)
FC_TWO(f32_hardsigmoid_backward, HardSigmoidBackward,
       const V inside = z < sp(3.0f) ? g / 6.0f : V{}; return z > sp(-3.0f) ? inside : V{};)
FC_ONE(f32_hardswish, HardSwish, return x * clamp<kWidth>(x + 3.0f, 0.0f, 6.0f) / 6.0f;)
FC_TWO(f32_hardswish_backward, HardSwishBackward,
       const V upper = z >= sp(3.0f) ? g : g * (z / 3.0f + 0.5f); return z <= sp(-3.0f) ? V{} : upper;)

FC_ONE(f32_gelu, Gelu, return x * vnormal_cdf<kWidth>(x);)
FC_TWO(f32_gelu_backward, GeluBackward,  // cdf(z) + z * density(z)
       const V density = 0.398942280f * vexp<kWidth>(-0.5f * z * z);
       return g * fma(z, density, vnormal_cdf<kWidth>(z));)

// Hendrycks and Gimpel (2016): x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3).
FC_INLINE V gelu_inner(V x) { return 0.797884561f * x * fma(x * x, sp(0.044715f), sp(1.0f)); }
FC_ONE(f32_gelu_tanh, GeluTanh, return x * vsigmoid<kWidth>(2.0f * gelu_inner(x));)
FC_TWO(f32_gelu_tanh_backward, GeluTanhBackward, const V s = vsigmoid<kWidth>(2.0f * gelu_inner(z));
       const V slope = 1.595769122f * fma(z * z, sp(0.134145f), sp(1.0f));
       return g * fma(z * (s * (1.0f - s)), slope, s);)

FC_INLINE int64_t f32_fill_tiles(const MapArgs* a) { return map_tiles(a); }
FC_INLINE size_t f32_fill_scratch(const MapArgs*) { return 0; }
inline void f32_fill_run(const MapArgs* a, int64_t begin, int64_t end, void*) {
    const V value = sp(static_cast<float>(a->a));
    map_rows(a, begin, end, [&](int64_t, int64_t, int64_t oy, int64_t count) {
        float* y = a->y + oy;
        for (int64_t i = 0; i < count; i += kWidth)
            store_n<kWidth>(y + i, value, static_cast<int>(min64(kWidth, count - i)));
    });
}

#undef FC_MAP
#undef FC_ONE
#undef FC_ONE_AB
#undef FC_TWO
#undef FC_TWO_AB

}  // namespace
}  // namespace
