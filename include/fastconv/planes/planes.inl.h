// float32 as bfloat16 planes: x = h + m + l, each plane rounded to nearest, ties to even, from what the planes before it left.
//
//   x       s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm        24 significant bits
//   h       s eeeeeeee mmmmmmm                         8
//   m = bf16(x - h)       s ........ mmmmmmm           8 more, and the sign
//   l = bf16(x - h - m)               s ..... mmmmmmm  the rest: exact from 2^-100 up
//
// Rounding never makes an infinity of a finite value: what would round up to one keeps the largest finite bfloat16, and
// the next plane takes the rest (FLT_MAX = 0x7f7f + 65536 ulp - 1 ulp). An infinite h leaves NaN for m (inf - inf), so
// that every product sum over a non-finite value is NaN; the kernels recompute such results (planes/fma.inl.h).
// Planes below 2^-126 become zeros of their sign, which is what the instructions would make of them.
#ifndef FASTCONV_PLANES_INL_H
#define FASTCONV_PLANES_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kLanes = 16;      // filters of a block of packed planes
constexpr int64_t kStep = 32;   // elements of the reduction per step

template <int W>
struct HalfTypes {
    typedef uint16_t U __attribute__((vector_size(W * 2), may_alias, aligned(2)));
};

// A float's bits rounded to bfloat16, in place: the lower half is zero.
template <int W>
FC_INLINE Vi<W> round_plane(Vf<W> x) {
    const Vi<W> bits = (Vi<W>)x, size = bits & splat_i<W>(0x7fffffff), top = splat_i<W>(0x7f7fffff);
    const Vi<W> up = size + 0x7fff + ((size >> 16) & 1);
    const Vi<W> finite = up > top ? top : up;
    const Vi<W> special = size > splat_i<W>(0x7f800000) ? size | 0x400000 : size;
    const Vi<W> some = size > top ? special : finite;
    const Vi<W> kept = size < splat_i<W>(0x00800000) ? Vi<W>{} : some;
    return (kept | (bits ^ size)) & splat_i<W>(static_cast<int32_t>(0xffff0000u));
}

// Takes the next plane off x: its bits, x is what remains.
template <int W>
FC_INLINE Vi<W> next_plane(Vf<W>& x) {
    const Vi<W> h = round_plane<W>(x);
    x = x - (Vf<W>)h;
    return h;
}

template <int W>
FC_INLINE typename HalfTypes<W>::U upper_halves(Vi<W> v) {
    return __builtin_convertvector((Vu<W>)v >> 16, typename HalfTypes<W>::U);
}

// Two neighbouring elements as one 32-bit value, the first in the lower half; a last odd one has a zero beside it.
FC_INLINE int32_t pair_at(const uint16_t* p) {
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}
FC_INLINE float plane_value(uint16_t v) {
    const uint32_t bits = static_cast<uint32_t>(v) << 16;
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
}

// acc + a.odd * b.odd, rounded, + a.even * b.even: the order of VDPBF16PS. Products of bfloat16 are exact in float32, so
// the result has the same bits with and without that instruction (denormals are flushed in a run, as it does).
template <int W>
FC_INLINE Vf<W> dot_pair(Vi<W> a, Vi<W> b, Vf<W> acc) {
#if defined(__AVX512BF16__)
    if constexpr (W == 16) return (Vf<W>)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#endif
    const Vi<W> odd = splat_i<W>(static_cast<int32_t>(0xffff0000u));
    acc = mul_add<W>((Vf<W>)(a & odd), (Vf<W>)(b & odd), acc);
    return mul_add<W>((Vf<W>)(a << 16), (Vf<W>)(b << 16), acc);
}

// ---- the split of activations -------------------------------------------------------------------------------------

FC_INLINE int64_t split_pixels(const SplitArgs* a) { return max64(1, 16384 / max64(1, a->ldp)); }
FC_INLINE int64_t bf16_split_tiles(const SplitArgs* a) { return ceil_div(a->n * a->pixels, split_pixels(a)); }
FC_INLINE size_t bf16_split_scratch(const SplitArgs*) { return 0; }

template <int P>
FC_INLINE void split_row(const float* x, int64_t count, uint16_t* out, int64_t plane) {
    constexpr int W = kWidth;
    int64_t c = 0;
    for (; c + W <= count; c += W) {
        Vf<W> v = load<W>(x + c);
#pragma GCC unroll 3
        for (int p = 0; p < P; ++p)
            *reinterpret_cast<typename HalfTypes<W>::U*>(out + p * plane + c) = upper_halves<W>(next_plane<W>(v));
    }
    if (c < count) {
        Vf<W> v = Ops<W>::load_n(x + c, static_cast<int>(count - c));
#pragma GCC unroll 3
        for (int p = 0; p < P; ++p) {
            const typename HalfTypes<W>::U u = upper_halves<W>(next_plane<W>(v));
            __builtin_memcpy(out + p * plane + c, &u, static_cast<size_t>(count - c) * 2);
        }
    }
}

template <int P>
FC_INLINE void split_run(const SplitArgs* a, int64_t begin, int64_t end) {
    const int64_t per = split_pixels(a), last = min64(a->n * a->pixels, end * per);
    if (a->ldx == a->C && a->ldp == a->C) {  // dense on both sides: one row
        split_row<P>(a->x + begin * per * a->C, (last - begin * per) * a->C, a->planes + begin * per * a->C,
                     a->plane_stride);
        return;
    }
    for (int64_t i = begin * per; i < last; ++i) {
        uint16_t* out = a->planes + i * a->ldp;
        split_row<P>(a->x + i * a->ldx, a->C, out, a->plane_stride);
        for (int p = 0; p < P; ++p)
            for (int64_t c = a->C; c < a->ldp; ++c) out[p * a->plane_stride + c] = 0;
    }
}

inline void bf16_split_run(const SplitArgs* a, int64_t begin, int64_t end, void*) {
    if (a->count == 1) {
        split_run<1>(a, begin, end);
    } else if (a->count == 2) {
        split_run<2>(a, begin, end);
    } else {
        split_run<3>(a, begin, end);
    }
}

// ---- weights ------------------------------------------------------------------------------------------------------

// Steps of a block of filters; 1 KB per step and plane.
template <class Args>
FC_INLINE int64_t plane_steps(const Args* a, int64_t tap) {
    return ceil_div(a->T * ((tap + 1) & ~int64_t{1}), kStep);
}

FC_INLINE int64_t bf16_pack_weight_tiles(const PlanePackArgs* a) { return a->G * ceil_div(a->K * a->krun, kLanes); }
FC_INLINE size_t bf16_pack_weight_scratch(const PlanePackArgs*) { return 0; }

// Sixteen filters' values of one pair of elements, to all planes.
FC_INLINE void pack_pair(const float* even, const float* odd, int64_t planes, uint16_t* out) {
    constexpr int W = kWidth;
#pragma GCC unroll 4
    for (int i = 0; i < kLanes; i += W) {
        Vf<W> a = load<W>(even + i), b = load<W>(odd + i);
        for (int64_t p = 0; p < planes; ++p) {
            const Vi<W> low = next_plane<W>(a), high = next_plane<W>(b);
            store<W>(reinterpret_cast<int32_t*>(out + p * kStep * kLanes) + i, high | (Vi<W>)((Vu<W>)low >> 16));
        }
    }
}

inline void bf16_pack_weight_run(const PlanePackArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t tap = a->crun * a->row, even = (tap + 1) & ~int64_t{1}, steps = plane_steps(a, tap);
    const int64_t filters = a->K * a->krun, blocks = ceil_div(filters, kLanes);
    const int64_t size = steps * a->planes * kStep * kLanes;
    const auto offset = [a, tap](int64_t j) {  // of element j of a tap in the user's layout, or -1
        return j < tap && j % a->row < a->C ? j % a->row * a->sc + j / a->row * a->scrun : -1;
    };
    for (int64_t tile = begin; tile < end; ++tile) {
        uint16_t* out = a->out + tile * size;
        const int64_t g = tile / blocks, k0 = tile % blocks * kLanes, count = min64(kLanes, filters - k0);
        const float* row[kLanes];
        for (int64_t i = 0; i < count; ++i) {
            const int64_t f = k0 + i;
            row[i] = a->flat + g * a->sg + f / a->K * a->skrun + f % a->K * a->sk;
        }
        alignas(64) float v[2][kLanes] = {};
        for (int64_t j = 0; j < even; j += 2) {
            const int64_t at[2] = {offset(j), offset(j + 1)};
            for (int64_t t = 0; t < a->T; ++t) {
                for (int h = 0; h < 2; ++h)
                    for (int64_t i = 0; i < count; ++i)
                        v[h][i] = at[h] < 0 ? 0.0f : row[i][at[h] + a->taps[t] * a->st];
                const int64_t k = t * even + j;
                pack_pair(v[0], v[1], a->planes, out + (k / kStep * a->planes * kStep + k % kStep) * kLanes);
            }
        }
        for (int64_t k = a->T * even; k < steps * kStep; k += 2)
            for (int64_t p = 0; p < a->planes; ++p)
                memset(out + ((k / kStep * a->planes + p) * kStep + k % kStep) * kLanes, 0, 4 * kLanes);
    }
}

}  // namespace
}  // namespace
#endif
