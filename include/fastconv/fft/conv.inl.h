// Convolution by Fourier transforms, by tiles (overlap-save), channels-last.
//
// y = sum over taps of x[p + r] w[r] is, at each frequency, a complex product of two matrices: tiles x channels by
// channels x filters, Y = X * conj(W). A range of tiles goes through three steps that share two spectra of a few
// megabytes: f32_fft_transform, f32_fft_product, f32_fft_inverse. Weights are transformed once per change by
// f32_fft_weight. Depthwise, where the product is one multiplication, all three are one step per tile and vector of
// channels: f32_fft_depthwise.
//
// The register tile of the product: M tiles x 1 vector of filters, three sums of products each (four with fewer registers).
//
//                        w: [channel][W real, W imaginary], 2 loads per channel
//                        +-----------+-----------+-----------+
//   tile 0  xr[c] xi[c] -| p[0]      | q[0]      | t[0]      |   p += xr wr,  q += xi wi
//     ...                |   ...     |   ...     |   ...     |   t += (xr + xi) (wr - wi)
//   tile M-1             +-----------+-----------+-----------+
//
// AVX-512: M = 9, 27 accumulators; per channel 2 loads, 18 broadcasts, 27 multiply-adds and 10 additions. Bound by the FMA
// units once there are enough tiles to share a load of the weights, by the weights' bandwidth where there are few.
#include "fastconv/conv/tile.inl.h"
#include "fastconv/fft/tile.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// ---- weights ------------------------------------------------------------------------------------------------------

// One tile: one group's block of filters by so many channels.
constexpr int64_t kFftWeightRun = 8;

FC_INLINE int64_t f32_fft_weight_tiles(const FftArgs* a) {
    return a->G * fft_blocks(a->K) * ceil_div(a->C, kFftWeightRun);
}
FC_INLINE size_t f32_fft_weight_scratch(const FftArgs* a) {
    return static_cast<size_t>(fft_scratch_floats(a)) * sizeof(float);
}

struct FftFilters {
    int64_t g, block, first, end;  // channels [first, end)
    int lanes;
    int64_t offset;  // of the block's first filter in the user's weights
};

FC_INLINE FftFilters fft_filters(const FftArgs* a, int64_t tile) {
    const int64_t runs = ceil_div(a->C, kFftWeightRun), blocks = fft_blocks(a->K);
    const int64_t run = tile % runs, block = tile / runs % blocks, g = tile / (runs * blocks);
    return {g, block, run * kFftWeightRun, min64(a->C, (run + 1) * kFftWeightRun),
            static_cast<int>(min64(kWidth, a->K - block * kWidth)), g * a->sg + block * kWidth * a->sk};
}

// Floats per frequency of packed weights, and where a channel of a block of filters is among them.
FC_INLINE int64_t fft_packed_pitch(const FftArgs* a) { return a->G * fft_blocks(a->K) * a->C * kPair; }
FC_INLINE int64_t fft_packed_at(const FftArgs* a, int64_t g, int64_t block, int64_t c) {
    return ((g * fft_blocks(a->K) + block) * a->C + c) * kPair;
}

inline void f32_fft_weight_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const FftScratch s = fft_scratch(a, scratch);
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    const int64_t columns = fft_columns(a), fs = a->depthwise ? kPair : fft_packed_pitch(a);
    const bool flat = A0.size == 1 && A1.size == 1;
    const float scale = static_cast<float>(a->scale);
    for (int64_t tile = begin; tile < end; ++tile) {
        const FftFilters f = fft_filters(a, tile);
        FewBits bits;
        for (int64_t i = 0; i < A2.size * kWidth; ++i) s.row[i] = 0;
        for (int64_t c = f.first; c < f.end; ++c) {
            float* spectrum = a->packed + fft_packed_at(a, f.g, f.block, c) * (a->depthwise ? fft_frequencies(a) : 1);
            const float* w = a->w + f.offset + c * a->sc;
            for (int64_t i0 = 0; i0 < A0.size; ++i0)
                for (int64_t i1 = 0; i1 < A1.size; ++i1) {
                    float* y = flat ? spectrum : s.grid + (i0 * A1.size + i1) * columns * kPair;
                    const int64_t ys = flat ? fs : kPair, r0 = i0 / A0.dilation, r1 = i1 / A1.dilation;
                    if (i0 % A0.dilation || i1 % A1.dilation || r0 >= A0.taps || r1 >= A1.taps) {
                        for (int64_t k = 0; k < columns; ++k) vstore(y + k * ys, V{}), vstore(y + k * ys + kWidth, V{});
                        continue;
                    }
                    const float* row = w + r0 * A0.tap_step + r1 * A1.tap_step;
                    for (int64_t r = 0; r < A2.taps; ++r) {
                        float* to = s.row + r * A2.dilation * kWidth;
                        for (int i = 0; i < f.lanes; ++i) to[i] = row[r * A2.tap_step + i * a->sk];
                        const V v = vload(to);
                        bits.add(v);
                        vstore(to, v * scale);
                    }
                    fft_real(A2, s.row, kPair, kWidth, y, ys, s.work);
                }
            if (!flat) fft_columns_forward(a, s, spectrum, fs);
        }
        if (a->bits) bits.store(a->bits + 3 * tile);
    }
}

// ---- tiles to spectra and back --------------------------------------------------------------------------------------

// One tile of the problem: one tile of the image, all its channels. Blocks of channels begin anew with every group: an input
// whose groups are to lie without gaps is one group.
FC_INLINE int64_t f32_fft_transform_tiles(const FftArgs* a) { return fft_count(a); }
FC_INLINE size_t f32_fft_transform_scratch(const FftArgs* a) {
    return f32_fft_weight_scratch(a) + static_cast<size_t>(a->note ? fft_seen_floats(a) : 0) * sizeof(float);
}

inline void f32_fft_transform_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const FftScratch s = fft_scratch(a, scratch);
    const int64_t blocks = fft_blocks(a->C);
    if (weight_kind(a->bits, a->bit_parts).exact) return;
    for (int64_t tile = begin; tile < end; ++tile) {
        const FftPlace place = fft_place(a, a->first + tile);
        if (a->note) {
            const int64_t channels = a->C / a->groups;
            int64_t extent[3];
            fft_extent(a, place, extent);
            for (int64_t g = 0; g < a->groups; ++g)
                a->note[tile * a->groups + g] = fft_any_quiet(
                    fft_seen(a, place, extent, a->x + g * channels, channels, s.row + a->axis[2].size * kWidth), extent);
        }
        for (int64_t b = 0; b < a->G * blocks; ++b) {
            const int64_t c = b % blocks * kWidth;
            fft_forward(a, place, a->x + b / blocks * a->C + c, static_cast<int>(min64(kWidth, a->C - c)), s,
                        a->xs + (tile * a->G * blocks + b) * kPair, a->xs_pitch);
        }
    }
}

FC_INLINE int64_t f32_fft_inverse_tiles(const FftArgs* a) { return fft_count(a); }
FC_INLINE size_t f32_fft_inverse_scratch(const FftArgs* a) {
    return f32_fft_weight_scratch(a) + static_cast<size_t>(fft_seen_floats(a)) * sizeof(float) + redo_bytes(fft_taps(a));
}

inline void f32_fft_inverse_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const FftScratch s = fft_scratch(a, scratch);
    float* work = s.row + a->axis[2].size * kWidth;
    const Redo list = redo_list(work + fft_seen_floats(a), fft_taps(a));
    const WeightKind kind = weight_kind(a->bits, a->bit_parts);
    const int64_t blocks = fft_blocks(a->K), step[3] = {1, 1, 1};
    const auto all = [](int64_t, int64_t, int64_t) { return true; };
    for (int64_t tile = begin; tile < end; ++tile) {
        const FftPlace place = fft_place(a, a->first + tile);
        int64_t extent[3];
        fft_extent(a, place, extent);
        for (int64_t g = 0; g < a->G; ++g)
            for (int64_t k = 0; k < a->K; k += kBlock) {  // a block of the weights that are not transformed
                bool good = !kind.exact;
                for (int64_t b = k / kWidth; good && b < min64(blocks, (k + kBlock) / kWidth); ++b) {
                    const int lanes = static_cast<int>(min64(kWidth, a->K - b * kWidth));
                    good = fft_inverse(a, a->ys + (tile * a->G * blocks + g * blocks + b) * kPair, a->ys_pitch, s, extent, step);
                    if (good) fft_epilogue(a, place, s.grid, extent, g * a->K + b * kWidth, lanes);
                }
                if (!good) fft_direct(a, place, extent, g, kind.finite, list, k / kBlock, k / kBlock + 1, all);
            }
        for (int64_t g = 0; g < a->G; ++g) {
            if (kind.exact || !a->note || !a->note[tile * a->G + g]) continue;
            const FftSeen seen = fft_seen(a, place, extent, a->x + g * a->C, a->C, work);
            fft_direct(a, place, extent, g, kind.finite, list, 0, ceil_div(a->K, kBlock),
                       [&](int64_t i0, int64_t i1, int64_t i2) { return seen.quiet(i0, i1, i2); });
        }
    }
}

// ---- the product --------------------------------------------------------------------------------------------------

// M complex sums. With 512-bit vectors a product is three multiplications, whose sums are kept apart:
//   p = sum ar br,  q = sum ai bi,  t = sum (ar + ai) (br - bi);   re = p + q,  im = t - p + q,
// because the addition can go to units of its own; with fewer registers it is four.
constexpr bool kThree = kWidth == 16;
constexpr int kFftM = kThree ? 9 : kTileM;

// The next tile's height for so many rows, down to four: nines, but eights where those come out even.
FC_INLINE int fft_height(int64_t rows) {
    if (kThree && rows && rows % 8 == 0) return 8;
    return rows >= kFftM ? kFftM : 4;
}

template <int M>
struct FftSums {
    V p[M], q[M], t[kThree ? M : 1];
    FC_INLINE void set(int m, V re, V im) {
        p[m] = re;
        if constexpr (kThree) {
            q[m] = V{};
            t[m] = im + re;
        } else {
            q[m] = im;
        }
    }
    FC_INLINE Cx get(int m) const {
        if constexpr (kThree) return {p[m] + q[m], (t[m] - p[m]) + q[m]};
        return {p[m], q[m]};
    }
};

// One element of M rows of a, am apart, times the conjugate of one of b.
template <int M>
FC_INLINE void fft_multiply(FftSums<M>& s, const float* a, int64_t am, const float* b) {
    const V br = vload(b), bi = vload(b + kWidth);
    if constexpr (kThree) {
        const V difference = br - bi;
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            V ar = splat<kWidth>(a[m * am]), ai = splat<kWidth>(a[m * am + kWidth]);
            __asm__("" : "+v"(ar), "+v"(ai));  // one broadcast each: GCC would load each twice and broadcast the sum
            s.p[m] = mul_add<kWidth>(ar, br, s.p[m]);
            s.q[m] = mul_add<kWidth>(ai, bi, s.q[m]);
            s.t[m] = mul_add<kWidth>(ar + ai, difference, s.t[m]);
        }
    } else {
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const V ar = splat<kWidth>(a[m * am]), ai = splat<kWidth>(a[m * am + kWidth]);
            s.p[m] = mul_add<kWidth>(ar, br, s.p[m]);
            s.q[m] = mul_add<kWidth>(ai, br, s.q[m]);
            s.p[m] = mul_add<kWidth>(ai, bi, s.p[m]);
            s.q[m] = negated_mul_add<kWidth>(ar, bi, s.q[m]);
        }
    }
}

// `next`: what the next block reads, one element per channel; asked for meanwhile.
template <int M>
FC_NOINLINE void fft_product_tile(const float* x, int64_t xm, int64_t first, int64_t C, const float* w, const float* next,
                                  float* y, int64_t ym) {
    FftSums<M> s;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) s.set(m, V{}, V{});
    for (int64_t c = first; c < first + C;) {
        const int64_t lane = c % kWidth, run = min64(kWidth - lane, first + C - c);
        const float* a = x + (c - lane) * 2 + lane;
        for (int64_t i = 0; i < run; ++i, w += kPair, next += kPair) {
            for (int j = 0; j < kPair; j += 16) __builtin_prefetch(next + j, 0, 2);
            fft_multiply<M>(s, a + i, xm, w);
        }
        c += run;
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
        const Cx sum = s.get(m);
        vstore(y + m * ym, sum.re);
        vstore(y + m * ym + kWidth, sum.im);
    }
}

// Asks for the next frequency's rows of a spectrum.
template <bool kWrite>
FC_INLINE void fft_ahead(const float* p, int64_t floats) {
    for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(p + i, kWrite, 2);
}

// Frequencies per tile of the problem: some 10 us of multiply-adds.
FC_INLINE int64_t fft_run_of_frequencies(int64_t multiply_adds) { return max64(1, (int64_t{1} << 17) / max64(1, multiply_adds)); }
FC_INLINE int64_t fft_product_run(const FftArgs* a) {
    return fft_run_of_frequencies(a->count * a->G * fft_blocks(a->K) * a->C * 4);
}
FC_INLINE int64_t f32_fft_product_tiles(const FftArgs* a) {
    return fft_count(a) ? ceil_div(fft_frequencies(a), fft_product_run(a)) : 0;
}
FC_INLINE size_t f32_fft_product_scratch(const FftArgs*) { return 0; }

inline void f32_fft_product_run(const FftArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t run = fft_product_run(a), count = fft_count(a), blocks = fft_blocks(a->K);
    const int64_t xm = fft_blocks(a->G * a->C) * kPair, ym = a->G * blocks * kPair, last = fft_frequencies(a);
    if (weight_kind(a->bits, a->bit_parts).exact) return;
    for (int64_t f = begin * run; f < min64(last, end * run); ++f) {
        if (f + 1 < last) {
            fft_ahead<false>(a->xs + (f + 1) * a->xs_pitch, count * xm);
            fft_ahead<true>(a->ys + (f + 1) * a->ys_pitch, count * ym);
        }
        for (int64_t b = 0; b < a->G * blocks; ++b) {
            const int64_t g = b / blocks, first = g * a->C;
            const float *x = a->xs + f * a->xs_pitch, *w = a->packed + f * fft_packed_pitch(a) + b * a->C * kPair;
            const float* next = w + a->C * kPair;  // of the next frequency behind the last block; past the end it only asks
            float* y = a->ys + f * a->ys_pitch + b * kPair;
            int64_t m = 0;
            const auto rows = [&] { return x + m * xm; };
            for (int h = 0; (h = fft_height(count - m)) > 4; m += h) {
                if (kThree && h == 8) {
                    fft_product_tile<kThree ? 8 : 4>(rows(), xm, first, a->C, w, next, y + m * ym, ym);
                } else {
                    fft_product_tile<kFftM>(rows(), xm, first, a->C, w, next, y + m * ym, ym);
                }
            }
            for (; m + 4 <= count; m += 4) fft_product_tile<4>(rows(), xm, first, a->C, w, next, y + m * ym, ym);
            if (m + 2 <= count) fft_product_tile<2>(rows(), xm, first, a->C, w, next, y + m * ym, ym), m += 2;
            if (m < count) fft_product_tile<1>(rows(), xm, first, a->C, w, next, y + m * ym, ym);
        }
    }
}

// ---- depthwise: C = K = 1, G channels ---------------------------------------------------------------------------------

// One tile of the problem: one tile of the image by one vector of channels; tiles of one image and vector are neighbours, so
// that its transformed weights stay in the second-level cache. Packed: [block][frequency][kPair].
FC_INLINE int64_t f32_fft_depthwise_tiles(const FftArgs* a) {
    return a->n * fft_blocks(a->G) * fft_tiles_per_image(a);
}
FC_INLINE size_t f32_fft_depthwise_scratch(const FftArgs* a) {
    return f32_fft_weight_scratch(a) + static_cast<size_t>(fft_lanes_floats(a) + fft_taps(a) * kWidth) * sizeof(float);
}

inline void f32_fft_depthwise_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const FftScratch s = fft_scratch(a, scratch);
    const int64_t per_image = fft_tiles_per_image(a), blocks = fft_blocks(a->G), frequencies = fft_frequencies(a);
    const int64_t step[3] = {1, 1, 1};
    float* work = s.row + a->axis[2].size * kWidth;
    const bool exact = weight_kind(a->bits, a->bit_parts).exact;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t b = tile / per_image % blocks, image = tile / (per_image * blocks), k = b * kWidth;
        const FftPlace place = fft_place(a, image * per_image + tile % per_image);
        const int lanes = static_cast<int>(min64(kWidth, a->G - k));
        int64_t extent[3];
        fft_extent(a, place, extent);
        const float* weights = a->w + k * a->sk;
        if (exact) {
            fft_direct_depthwise(a, place, a->x + k, weights, lanes, s.grid, extent, true, work);
            fft_epilogue(a, place, s.grid, extent, k, lanes);
            continue;
        }
        const bool quiet = a->share > 0 && fft_any_quiet_lane(a, place, extent, a->x + k, lanes, work);
        fft_forward(a, place, a->x + k, lanes, s, s.grid, kPair);
        const float* w = a->packed + b * frequencies * kPair;
        for (float* x = s.grid; x < s.grid + frequencies * kPair; x += kPair, w += kPair) {
            const Cx p = turned<true>({vload(x), vload(x + kWidth)}, vload(w), vload(w + kWidth));
            vstore(x, p.re);
            vstore(x + kWidth, p.im);
        }
        const bool good = fft_inverse(a, s.grid, kPair, s, extent, step);
        if (quiet || !good) fft_direct_depthwise(a, place, a->x + k, weights, lanes, s.grid, extent, !good, work);
        fft_epilogue(a, place, s.grid, extent, k, lanes);
    }
}

}  // namespace
}  // namespace
