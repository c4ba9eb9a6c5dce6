// Separable resampling by lists: each output coordinate of an axis is a short weighted sum over input coordinates. Resizing in
// every mode, padding, adaptive averages; with the transposed lists, their adjoints.
//
//   rows    first the outer axes: the rows that an output row reads are summed into one (left out where that is one row)
//   pixels  then along the row, a pixel of C values at a time: vectors of channels
//   values  or where neighbours along the row are contiguous, a vector of outputs at a time: what its lanes read lies within
//           one or two vectors, from which each tap is a permutation. An output of 16 floats by two taps: 2 loads, 2
//           permutations, 2 multiply-adds
//
// Sums run in the lists' order, the outer axes' first, whatever the cut. Bound by memory, or by the first-level cache.
#ifndef FASTCONV_RESAMPLE_INL_H
#define FASTCONV_RESAMPLE_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// ---- loads of either type -------------------------------------------------------------------------------------------

FC_INLINE Vf<kWidth> load_n_as_float(const float* p, int n) { return load_n<kWidth>(p, n); }
FC_NOINLINE inline void copy_bytes(uint8_t* dst, const uint8_t* src, int n) {
    for (int i = 0; i < n; ++i) dst[i] = src[i];
}
FC_INLINE Vf<kWidth> load_n_as_float(const uint8_t* p, int n) {
    typedef uint8_t B __attribute__((vector_size(kWidth)));
    uint8_t some[kWidth] = {0};
    if (n < kWidth) {
        copy_bytes(some, p, n);
        p = some;
    }
    B v;
    memcpy(&v, p, kWidth);
    return __builtin_convertvector(__builtin_convertvector(v, Vi<kWidth>), Vf<kWidth>);
}
// A float to the nearest byte, halves away from zero; NaN is 0.
FC_INLINE uint8_t to_byte(float v) { return v > 0 ? static_cast<uint8_t>(v < 255.0f ? v + 0.5f : 255.0f) : 0; }

FC_INLINE Vf<kWidth> gather(const float* p, Vi<kWidth> at) {
#if defined(__AVX512F__)
    return (Vf<kWidth>)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), static_cast<__mmask16>(-1), (__m512i)at, p, 4);
#elif defined(__AVX2__)
    return (Vf<kWidth>)_mm256_i32gather_ps(p, (__m256i)at, 4);
#else
    Vf<kWidth> r;
    for (int i = 0; i < kWidth; ++i) r[i] = p[at[i]];
    return r;
#endif
}
// Lane i is element lane[i] of the 2 * kWidth at p.
FC_INLINE Vf<kWidth> permute2(Vf<kWidth> low, Vf<kWidth> high, Vi<kWidth> lane) {
#if defined(__AVX512F__)
    return (Vf<kWidth>)_mm512_maskz_permutex2var_ps(static_cast<__mmask16>(-1), (__m512)low, (__m512i)lane, (__m512)high);
#else
    const Vi<kWidth> first = lane < kWidth;
    const Vi<kWidth> a = (Vi<kWidth>)permute<kWidth>(low, lane), b = (Vi<kWidth>)permute<kWidth>(high, lane);
    return (Vf<kWidth>)((a & first) | (b & ~first));
#endif
}
FC_INLINE Vf<kWidth> choose(Vi<kWidth> mask, Vf<kWidth> a, Vf<kWidth> b) {
    return (Vf<kWidth>)((mask & (Vi<kWidth>)a) | (~mask & (Vi<kWidth>)b));
}

// ---- rows -----------------------------------------------------------------------------------------------------------

struct ResampleRow {
    int64_t at;
    float weight;
    int32_t unused;
};

// Values by which the last row is fetched ahead. (Zen 5, nearest backward of 8x64x112x112, past the caches: 158 -> 136 ns a row.)
constexpr int64_t kRowsAhead = 1024;

template <typename T>
FC_INLINE void sum_rows(float* dst, const T* x, const ResampleRow* rows, int64_t count, int64_t length) {
    constexpr int W = kWidth;
    int64_t i = 0;
    const T* ahead = x + rows[count - 1].at + kRowsAhead;
    for (; i + 2 * W <= length; i += 2 * W) {
        __builtin_prefetch(ahead + i);
        if (2 * W * sizeof(T) > 64) __builtin_prefetch(ahead + i + W);
        Vf<W> a = splat<W>(rows[0].weight) * load_n_as_float(x + rows[0].at + i, W);
        Vf<W> b = splat<W>(rows[0].weight) * load_n_as_float(x + rows[0].at + i + W, W);
        for (int64_t r = 1; r < count; ++r) {
            const T* p = x + rows[r].at + i;
            const Vf<W> w = splat<W>(rows[r].weight);
            a = mul_add<W>(w, load_n_as_float(p, W), a);
            b = mul_add<W>(w, load_n_as_float(p + W, W), b);
        }
        store<W>(dst + i, a);
        store<W>(dst + i + W, b);
    }
    for (; i < length; i += W) {
        const int n = static_cast<int>(min64(W, length - i));
        Vf<W> a = splat<W>(rows[0].weight) * load_n_as_float(x + rows[0].at + i, n);
        for (int64_t r = 1; r < count; ++r)
            a = mul_add<W>(splat<W>(rows[r].weight), load_n_as_float(x + rows[r].at + i, n), a);
        store_n<W>(dst + i, a, n);
    }
}

// `pixels` pixels of C values, `xs` apart, into neighbours; `at` is moved into the rows by the caller.
template <typename T>
FC_NOINLINE void read_rows(float* dst, const T* x, const ResampleRow* rows, int64_t count, int64_t pixels, int64_t C,
                           int64_t xs) {
    if (pixels <= 0) return;  // of nothing, there may be no address
    if (xs == C) {
        if (count == 1 && rows[0].weight == 1.0f && sizeof(T) == 4) {
            memcpy(dst, x + rows[0].at, static_cast<size_t>(pixels * C) * 4);
        } else {
            sum_rows(dst, x, rows, count, pixels * C);
        }
    } else if (C >= kWidth / 2) {
        for (int64_t p = 0; p < pixels; ++p) {
            if (count == 1 && rows[0].weight == 1.0f && sizeof(T) == 4) {
                memcpy(dst + p * C, x + rows[0].at + p * xs, static_cast<size_t>(C) * 4);
            } else {
                sum_rows(dst + p * C, x + p * xs, rows, count, C);
            }
        }
    } else {
        for (int64_t p = 0; p < pixels; ++p)
            for (int64_t c = 0; c < C; ++c) {
                const T* from = x + p * xs + c;
                if (count == 1 && rows[0].weight == 1.0f) {
                    dst[p * C + c] = static_cast<float>(from[rows[0].at]);
                } else {
                    float sum = 0;
                    for (int64_t r = 0; r < count; ++r) sum += rows[r].weight * static_cast<float>(from[rows[r].at]);
                    dst[p * C + c] = sum;
                }
            }
    }
}

// ---- along the row --------------------------------------------------------------------------------------------------

constexpr int64_t kMostTaps = 64;  // that are summed at once

// dst = the sum over T taps (0: over `taps`), to which dst is added where it is not the first.
template <int T>
FC_INLINE void sum_pixels(const float* const* from, const float* weight, int64_t taps, float* dst, int64_t C, bool first) {
    constexpr int W = kWidth;
    const int64_t count = T ? T : taps;
    Vf<W> w[T ? T : 1];
    for (int t = 0; t < T; ++t) w[t] = splat<W>(weight[t]);
    const float* p[T ? T : 1];
    for (int t = 0; t < T; ++t) p[t] = from[t];
    int64_t c = 0;
    for (; T && c + W <= C; c += W) {
        Vf<W> sum = w[0] * load<W>(p[0] + c);
        for (int t = 1; t < T; ++t) sum = mul_add<W>(w[t], load<W>(p[t] + c), sum);
        store<W>(dst + c, sum);
    }
    for (; c < C; c += W) {
        const int n = static_cast<int>(min64(W, C - c));
        const Vf<W> one = load_n<W>(from[0] + c, n), w0 = splat<W>(weight[0]);
        Vf<W> sum = first ? w0 * one : mul_add<W>(w0, one, load_n<W>(dst + c, n));
        for (int64_t t = 1; t < count; ++t) sum = mul_add<W>(splat<W>(weight[t]), load_n<W>(from[t] + c, n), sum);
        store_n<W>(dst + c, sum, n);
    }
}

// An output pixel of any number of taps.
FC_NOINLINE inline void sum_any(const float* x, const ResampleRow* rows, int64_t count, const int32_t* index,
                                const float* weight, int64_t taps, int64_t xs, float* dst, int64_t C) {
    const float* from[kMostTaps];
    float weights[kMostTaps];
    int64_t n = 0;
    bool first = true;
    for (int64_t r = 0; r < count; ++r)
        for (int64_t t = 0; t < taps; ++t) {
            from[n] = x + rows[r].at + index[t] * xs;
            weights[n] = rows[r].weight * weight[t];
            if (++n == kMostTaps || (r == count - 1 && t == taps - 1)) {
                sum_pixels<0>(from, weights, n, dst, C, first);
                first = false;
                n = 0;
            }
        }
}

// Outputs [begin, end) of pixels: of each of the rows, x + rows[r].at is pixel 0, xs apart.
FC_NOINLINE inline void row_of_pixels(const ResampleArgs* a, const float* x, const ResampleRow* rows, int64_t count,
                                      int64_t xs, float* dst, int64_t ys, int64_t begin, int64_t end) {
    const int64_t C = a->C, first = a->row.start[begin];
    const float* base = x + rows[0].at;
    const int64_t next = count == 2 ? rows[1].at - rows[0].at : 0;
    const float u = rows[0].weight, v = count == 2 ? rows[1].weight : 0.0f;
    const int32_t* index = a->row.index + first;
    const float* weight = a->row.weight + first;
    int64_t taps;
    for (int64_t o = begin; o < end; ++o, dst += ys, index += taps, weight += taps) {
        taps = a->row.start[o + 1] - a->row.start[o];
        if (taps == 0) {
            for (int64_t c = 0; c < C; ++c) dst[c] = static_cast<float>(a->fill);
            continue;
        }
        const float* p = base + index[0] * xs;
        if (count == 1 && taps == 1 && u * weight[0] == 1.0f) {
            memcpy(dst, p, static_cast<size_t>(C) * 4);
        } else if (count == 1 && taps == 2) {
            const float* from[2] = {p, base + index[1] * xs};
            const float w[2] = {u * weight[0], u * weight[1]};
            sum_pixels<2>(from, w, 2, dst, C, true);
        } else if (count * taps == 4 && count <= 2) {
            const float *q = base + index[1] * xs, *r = count == 2 ? p + next : base + index[2] * xs;
            const float* from[4] = {p, q, r, count == 2 ? q + next : base + index[3] * xs};
            const float w[4] = {u * weight[0], u * weight[1], count == 2 ? v * weight[0] : u * weight[2],
                                count == 2 ? v * weight[1] : u * weight[3]};
            sum_pixels<4>(from, w, 4, dst, C, true);
        } else {
            sum_any(x, rows, count, index, weight, taps, xs, dst, C);
        }
    }
}

template <int Kind>
FC_INLINE Vf<kWidth> sum_block(const ResampleBlock* b, const float* src, const int32_t* lanes, const float* weights,
                               const float* empty) {
    constexpr int W = kWidth;
    const float* p = src + b->base;
    const Vf<W> low = Kind < 2 ? load<W>(p) : Vf<W>{}, high = Kind == 1 ? load<W>(p + W) : Vf<W>{};
    lanes += b->at * W;
    weights += b->at * W;
    Vf<W> sum = empty ? load<W>(empty) : Vf<W>{};
    for (int32_t t = 0; t < b->taps; ++t) {
        const Vi<W> lane = load<W>(lanes + t * W);
        const Vf<W> v = Kind == 0 ? permute<W>(low, lane) : Kind == 1 ? permute2(low, high, lane) : gather(src, lane);
        if (b->use == kMoved) return v;
        const Vf<W> w = load<W>(weights + t * W);
        if (b->use == kSummed) {
            sum = mul_add<W>(w, v, sum);
        } else {
            sum = choose(w != Vf<W>{}, b->use == kMovedSome ? v : mul_add<W>(w, v, sum), sum);
        }
    }
    return sum;
}

// Outputs [begin, end) of values: src is the first that the part reads.
FC_NOINLINE inline void row_of_values(const ResampleArgs* a, const float* src, float* dst, int64_t begin, int64_t end) {
    constexpr int W = kWidth;
    for (int64_t o = begin; o < end; o += W, dst += W) {
        const ResampleBlock* b = a->blocks + o / W;
        const float* empty = a->empty ? a->empty + o : nullptr;
        const Vf<W> v = b->kind == 0   ? sum_block<0>(b, src, a->lanes, a->weights, empty)
                        : b->kind == 1 ? sum_block<1>(b, src, a->lanes, a->weights, empty)
                                       : sum_block<2>(b, src, a->lanes, a->weights, empty);
        store_n<W>(dst, v, static_cast<int>(min64(W, end - o)));
    }
}

FC_NOINLINE inline void fill_row(float* dst, float value, int64_t pixels, int64_t C, int64_t ys) {
    const int64_t length = ys == C ? pixels * C : C;
    for (int64_t p = 0; p < (ys == C ? 1 : pixels); ++p)
        for (int64_t c = 0; c < length; c += kWidth)
            store_n<kWidth>(dst + p * ys + c, splat<kWidth>(value), static_cast<int>(min64(kWidth, length - c)));
}

// `pixels` pixels of C values from neighbours to where they belong.
FC_NOINLINE inline void write_row(const ResampleArgs* a, const float* src, int64_t at, int64_t pixels) {
    const int64_t ys = a->row.ys, C = a->C;
    if (a->y_u8) {
        uint8_t* dst = static_cast<uint8_t*>(a->y) + at;
        if (ys == C) {
            for (int64_t i = 0; i < pixels * C; ++i) dst[i] = to_byte(src[i]);
        } else {
            for (int64_t p = 0; p < pixels; ++p)
                for (int64_t c = 0; c < C; ++c) dst[p * ys + c] = to_byte(src[p * C + c]);
        }
    } else {
        float* dst = static_cast<float*>(a->y) + at;
        for (int64_t p = 0; p < pixels; ++p)
            for (int64_t c = 0; c < C; ++c) dst[p * ys + c] = src[p * C + c];
    }
}

// ---- the kernel -----------------------------------------------------------------------------------------------------

FC_INLINE int64_t resample_rows(const ResampleArgs* a) {
    int64_t rows = a->batched ? a->n : 1;
    for (int64_t i = a->batched ? 1 : 0; i < a->outer; ++i) rows *= a->axis[i].size;
    return rows;
}
// Parts of rows per tile.
FC_INLINE int64_t resample_grain(const ResampleArgs* a) { return max64(1, 16384 / max64(1, (a->step + a->span) * a->C)); }

FC_INLINE int64_t resample_tiles(const ResampleArgs* a) {
    return a->row.size && a->C ? ceil_div(resample_rows(a) * a->parts, resample_grain(a)) : 0;
}
FC_INLINE size_t resample_row_bytes(int64_t floats) { return static_cast<size_t>(floats + 2 * kWidth + 15) / 16 * 64; }
FC_INLINE size_t resample_scratch(const ResampleArgs* a) {
    return resample_row_bytes(a->span * a->C) + resample_row_bytes(a->step * a->C) +
           static_cast<size_t>(a->most) * sizeof(ResampleRow);
}

// The rows of x that row `r` of y reads; how many. Where it goes is *at.
FC_NOINLINE inline int64_t resample_sources(const ResampleArgs* a, int64_t r, ResampleRow* rows, int64_t* at) {
    int64_t coordinate[kResampleAxes];
    *at = 0;
    for (int64_t i = a->outer - 1; i >= 0; --i) {
        const int64_t size = i || !a->batched ? a->axis[i].size : max64(1, a->n);
        coordinate[i] = r % size;
        r /= size;
        *at += coordinate[i] * a->axis[i].ys;
    }
    int64_t count = 1;
    rows[0].at = 0;
    rows[0].weight = 1.0f;
    for (int64_t i = 0; i < a->outer; ++i) {
        const ResampleAxis* x = &a->axis[i];
        if (!x->start) {
            for (int64_t j = 0; j < count; ++j) rows[j].at += coordinate[i] * x->xs;
            continue;
        }
        const int64_t first = x->start[coordinate[i]], taps = x->start[coordinate[i] + 1] - first;
        if (!taps) return 0;
        for (int64_t j = count - 1; j >= 0; --j)  // in place: from behind
            for (int64_t t = taps - 1; t >= 0; --t) {
                rows[j * taps + t].weight = rows[j].weight * x->weight[first + t];
                rows[j * taps + t].at = rows[j].at + x->index[first + t] * x->xs;
            }
        count *= taps;
    }
    return count;
}

template <typename T>
FC_INLINE void resample_part(const ResampleArgs* a, const ResampleRow* rows, int64_t count, int64_t part, int64_t at,
                             float* mine, float* out) {
    const int64_t begin = part * a->step, end = min64(a->row.size, begin + a->step), C = a->C, xs = a->row.xs;
    const int64_t low = a->low[part], pixels = a->high[part] - low;
    const bool dense = !a->y_u8 && (a->row.ys == C || C > 1);  // y is written at once
    float* dst = dense ? static_cast<float*>(a->y) + at + begin * a->row.ys : out;
    const int64_t ys = dense ? a->row.ys : C;
    const T* x = static_cast<const T*>(a->x);
    if (count == 0) {
        fill_row(dst, static_cast<float>(a->fill), end - begin, C, ys);
    } else if (!a->row.start) {  // the row is not resampled
        if (ys == C) {
            read_rows(dst, x + begin * xs, rows, count, end - begin, C, xs);
        } else {
            for (int64_t p = begin; p < end; ++p) read_rows(dst + (p - begin) * ys, x + p * xs, rows, count, 1, C, C);
        }
    } else {
        const bool one = count == 1 && rows[0].weight == 1.0f, floats = sizeof(T) == 4;
        const float* values = reinterpret_cast<const float*>(x);  // where they are such
        const ResampleRow whole = {0, 1.0f, 0};
        if (a->blocks) {
            if (floats && one && xs == C && a->xW >= 2 * kWidth) {
                mine = const_cast<float*>(values + rows[0].at + low);
            } else {
                read_rows(mine, x + low * xs, rows, count, pixels, C, xs);
            }
            row_of_values(a, mine, dst, begin, end);
        } else if (floats && (one || a->fused)) {
            row_of_pixels(a, values, rows, count, xs, dst, ys, begin, end);
        } else {
            read_rows(mine, x + low * xs, rows, count, pixels, C, xs);
            row_of_pixels(a, mine - low * C, &whole, 1, C, dst, ys, begin, end);
        }
    }
    if (!dense) write_row(a, out, at + begin * a->row.ys, end - begin);
}

inline void resample_run(const ResampleArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t grain = resample_grain(a), last = min64(resample_rows(a) * a->parts, end * grain);
    float* mine = static_cast<float*>(scratch);
    float* out = mine + resample_row_bytes(a->span * a->C) / 4;
    ResampleRow* rows = reinterpret_cast<ResampleRow*>(out + resample_row_bytes(a->step * a->C) / 4);
    int64_t row = -1, at = 0, count = 0;
    for (int64_t i = begin * grain; i < last; ++i) {
        if (i / a->parts != row) {
            row = i / a->parts;
            count = resample_sources(a, row, rows, &at);
        }
        if (a->x_u8) {
            resample_part<uint8_t>(a, rows, count, i % a->parts, at, mine, out);
        } else {
            resample_part<float>(a, rows, count, i % a->parts, at, mine, out);
        }
    }
}

}  // namespace
}  // namespace
#endif
