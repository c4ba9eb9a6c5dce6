// A tile of an FFT convolution: from pixels to a spectrum and back, one vector of channels at a time.
//
// Forward, overlap-save: a tile of F0 x F1 x F2 samples is read around the tile's outputs, samples in the padding are
// zero. Real transforms along the rows (axis 2) into `grid`, F0 x F1 rows of F2 / 2 + 1 complex elements, in the
// second-level cache; then complex ones along axis 1 and axis 0, the last of which writes the spectrum. Backwards the same
// in reverse, and only those rows are transformed that hold outputs.
#ifndef FASTCONV_FFT_TILE_INL_H
#define FASTCONV_FFT_TILE_INL_H

#include "fastconv/simd/activation.inl.h"
#include "fastconv/fft/fft.inl.h"
#include "fastconv/conv/locality.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t fft_columns(const FftArgs* a) { return a->axis[2].size / 2 + 1; }
FC_INLINE int64_t fft_frequencies(const FftArgs* a) { return a->axis[0].size * a->axis[1].size * fft_columns(a); }
FC_INLINE int64_t fft_tiles_per_image(const FftArgs* a) { return a->axis[0].tiles * a->axis[1].tiles * a->axis[2].tiles; }
// Tiles of the range first .. first + count that the batch of this run has.
FC_INLINE int64_t fft_count(const FftArgs* a) {
    return max64(0, min64(a->count, a->n * fft_tiles_per_image(a) - a->first));
}
FC_INLINE int64_t fft_blocks(int64_t channels) { return ceil_div(channels, kWidth); }

// Scratch of one tile: the grid, what the transforms along one axis need, and a row of samples.
FC_INLINE int64_t fft_work_floats(const FftArgs* a) {
    return max64(max64(2 * a->axis[0].size, 2 * a->axis[1].size), 3 * (a->axis[2].size / 2)) * kPair;
}
FC_INLINE int64_t fft_scratch_floats(const FftArgs* a) {
    return fft_frequencies(a) * kPair + fft_work_floats(a) + a->axis[2].size * kWidth;
}

struct FftScratch {
    float *grid, *work, *row;
};

FC_INLINE FftScratch fft_scratch(const FftArgs* a, void* scratch) {
    float* grid = static_cast<float*>(scratch);
    float* work = grid + fft_frequencies(a) * kPair;
    return {grid, work, work + fft_work_floats(a)};
}

// Where a tile is: its image, and its first output along each axis.
struct FftPlace {
    int64_t image, at[3];
};

FC_INLINE FftPlace fft_place(const FftArgs* a, int64_t tile) {
    const int64_t t2 = tile % a->axis[2].tiles, rest = tile / a->axis[2].tiles;
    const int64_t t1 = rest % a->axis[1].tiles, more = rest / a->axis[1].tiles;
    return {more / a->axis[0].tiles,
            {more % a->axis[0].tiles * a->axis[0].tile, t1 * a->axis[1].tile, t2 * a->axis[2].tile}};
}

// Asks for n elements, `stride` floats apart, which the next block of channels (or the next tile) has its turn with: in a
// spectrum each lies on a page of its own, and no hardware looks ahead over that.
template <bool kWrite>
FC_INLINE void fft_prefetch(const float* p, int64_t n, int64_t stride) {
    for (int64_t i = 0; i < n; ++i, p += stride)
        for (int j = 0; j < kPair; j += 16) __builtin_prefetch(p + j, kWrite, 3);
}

// Rows of the grid to a spectrum whose frequencies are fs floats apart (the grid itself: kPair).
FC_INLINE void fft_columns_forward(const FftArgs* a, const FftScratch& s, float* spectrum, int64_t fs) {
    const int64_t F0 = a->axis[0].size, F1 = a->axis[1].size, columns = fft_columns(a);
    if (F1 > 1) {
        const bool last = F0 == 1;
        for (int64_t i = 0; i < F0; ++i)
            for (int64_t k = 0; k < columns; ++k) {
                const float* x = s.grid + (i * F1 * columns + k) * kPair;
                float* y = last ? spectrum + k * fs : const_cast<float*>(x);
                if (last && fs != kPair) fft_prefetch<true>(y + kPair, F1, columns * fs);
                fft_complex<false>(a->axis[1], F1, x, columns * kPair, kWidth, y, columns * (last ? fs : kPair), s.work);
            }
    }
    if (F0 > 1)
        for (int64_t k = 0; k < F1 * columns; ++k) {
            if (fs != kPair) fft_prefetch<true>(spectrum + k * fs + kPair, F0, F1 * columns * fs);
            fft_complex<false>(a->axis[0], F0, s.grid + k * kPair, F1 * columns * kPair, kWidth, spectrum + k * fs,
                               F1 * columns * fs, s.work);
        }
}

// The tile at `place`, `lanes` channels at x: its spectrum.
FC_INLINE void fft_forward(const FftArgs* a, const FftPlace& place, const float* x, int lanes, const FftScratch& s,
                           float* spectrum, int64_t fs) {
    const FftAxis &d = a->axis[0], &h = a->axis[1], &w = a->axis[2];
    const int64_t columns = fft_columns(a), step = w.in_step * a->ldx;
    const int64_t o2 = place.at[2] - w.low, begin = max64(0, -o2), end = min64(w.span, w.in - o2);
    const bool dense = begin == 0 && end == w.size && lanes == kWidth, flat = d.size == 1 && h.size == 1;
    if (!dense)
        for (int64_t i = 0; i < w.size; ++i)
            if (i < begin || i >= end) vstore(s.row + i * kWidth, V{});
    for (int64_t i0 = 0; i0 < d.size; ++i0)
        for (int64_t i1 = 0; i1 < h.size; ++i1) {
            const int64_t p0 = place.at[0] - d.low + i0, p1 = place.at[1] - h.low + i1;
            const bool inside = i0 < d.span && i1 < h.span && p0 >= 0 && p0 < d.in && p1 >= 0 && p1 < h.in && begin < end;
            float* y = flat ? spectrum : s.grid + (i0 * h.size + i1) * columns * kPair;
            const int64_t ys = flat ? fs : kPair;
            if (!inside) {
                for (int64_t k = 0; k < columns; ++k) vstore(y + k * ys, V{}), vstore(y + k * ys + kWidth, V{});
                continue;
            }
            const float* from = x + (place.image * a->x_image + p0 * d.in_step + p1 * h.in_step) * a->ldx + o2 * step;
            for (int64_t i = begin; i < end; ++i) __builtin_prefetch(from + i * step + kWidth, 0, 2);  // the next block
            if (dense) {
                fft_real(w, from, 2 * step, step, y, ys, s.work);
                continue;
            }
            for (int64_t i = begin; i < end; ++i) vstore(s.row + i * kWidth, load_n<kWidth>(from + i * step, lanes));
            fft_real(w, s.row, kPair, kWidth, y, ys, s.work);
        }
    if (!flat) fft_columns_forward(a, s, spectrum, fs);
}

// A spectrum back to real samples in the grid's rows (row i0, i1 starts at grid + (i0 * F1 + i1) * columns * kPair, its
// samples are kWidth apart); only the rows 0, step[0], .. below extent[0] and so on. True if all samples among the
// first extent[2] are in range (conv/locality.inl.h). The spectrum may be the grid.
FC_INLINE bool fft_inverse(const FftArgs* a, const float* spectrum, int64_t fs, const FftScratch& s, const int64_t* extent,
                           const int64_t* step) {
    const int64_t F0 = a->axis[0].size, F1 = a->axis[1].size, columns = fft_columns(a);
    const float* x = spectrum;
    if (F0 > 1) {
        for (int64_t k = 0; k < F1 * columns; ++k) {
            if (fs != kPair) fft_prefetch<false>(x + k * fs + kPair, F0, F1 * columns * fs);
            fft_complex<true>(a->axis[0], F0, x + k * fs, F1 * columns * fs, kWidth, s.grid + k * kPair,
                              F1 * columns * kPair, s.work);
        }
        x = s.grid;
        fs = kPair;
    }
    if (F1 > 1) {
        for (int64_t i = 0; i < extent[0]; i += step[0])
            for (int64_t k = 0; k < columns; ++k) {
                const float* from = x + (i * F1 * columns + k) * fs;
                if (fs != kPair) fft_prefetch<false>(from + kPair, F1, columns * fs);
                fft_complex<true>(a->axis[1], F1, from, columns * fs, kWidth, s.grid + (i * F1 * columns + k) * kPair,
                                  columns * kPair, s.work);
            }
        x = s.grid;
        fs = kPair;
    }
    Vi<kWidth> peak = {};
    for (int64_t i0 = 0; i0 < extent[0]; i0 += step[0])
        for (int64_t i1 = 0; i1 < extent[1]; i1 += step[1]) {
            float* row = s.grid + (i0 * F1 + i1) * columns * kPair;
            if (fs != kPair)  // one axis: the frequencies still lie in the spectrum
                for (int64_t k = 0; k < columns; ++k) {
                    vstore(row + k * kPair, vload(x + k * fs));
                    vstore(row + k * kPair + kWidth, vload(x + k * fs + kWidth));
                }
            const float* from = fs == kPair ? x + (i0 * F1 + i1) * columns * kPair : row;
            fft_real_inverse(a->axis[2], from, row, s.work);
            for (int64_t i = 0; i < extent[2]; i += step[2])
                peak = larger<kWidth>(peak, magnitude_bits<kWidth>(vload(row + i * kWidth)));
        }
    return !out_of_range<kWidth>(peak);
}

// The outputs of a tile that the image has, along each axis.
FC_INLINE void fft_extent(const FftArgs* a, const FftPlace& place, int64_t* extent) {
    for (int i = 0; i < 3; ++i) extent[i] = min64(a->axis[i].tile, a->axis[i].out - place.at[i]);
}

// ---- without transforms -----------------------------------------------------------------------------------------------

// Pixels that a tile of outputs reads along an axis.
FC_INLINE int64_t fft_reads(const FftAxis& axis, int64_t outputs) { return outputs + (axis.taps - 1) * axis.dilation; }
FC_INLINE int64_t fft_taps(const FftArgs* a) { return a->axis[0].taps * a->axis[1].taps * a->axis[2].taps; }
FC_INLINE int64_t fft_seen_floats(const FftArgs* a) {
    int64_t n = 1;
    for (const FftAxis& axis : a->axis) n *= fft_reads(axis, axis.tile);
    return 2 * (n + kWidth);
}

// The energy of each output's window, rows `row` and planes `plane` apart; quiet are those that do not reach `least`.
struct FftSeen {
    const float* energy;
    int64_t row, plane;
    float least;
    FC_INLINE bool quiet(int64_t i0, int64_t i1, int64_t i2) const {
        return !(energy[i0 * plane + i1 * row + i2] >= least);
    }
};

// x: the first of `channels` that a window sees; work: fft_seen_floats.
FC_NOINLINE FftSeen fft_seen(const FftArgs* a, const FftPlace& place, const int64_t* extent, const float* x, int64_t channels,
                             float* work) {
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    const int64_t n0 = fft_reads(A0, extent[0]), n1 = fft_reads(A1, extent[1]), n2 = fft_reads(A2, extent[2]), n = n0 * n1 * n2;
    const int64_t o2 = place.at[2] - A2.low, begin = min64(n2, max64(0, -o2)), end = max64(begin, min64(n2, A2.in - o2));
    float *e = work, *other = work + fft_seen_floats(a) / 2;
    for (int64_t i0 = 0; i0 < n0; ++i0)
        for (int64_t i1 = 0; i1 < n1; ++i1) {
            float* row = e + (i0 * n1 + i1) * n2;
            const int64_t p0 = place.at[0] - A0.low + i0, p1 = place.at[1] - A1.low + i1;
            const bool inside = p0 >= 0 && p0 < A0.in && p1 >= 0 && p1 < A1.in;
            const int64_t from = inside ? begin : n2, to = inside ? end : n2;
            const float* at = x + (place.image * a->x_image + p0 * A0.in_step + p1 * A1.in_step + o2 * A2.in_step) * a->ldx;
            for (int64_t i = 0; i < from; ++i) row[i] = 0;
            for (int64_t i = from; i < to; ++i) row[i] = energy(at + i * A2.in_step * a->ldx, channels);
            for (int64_t i = to; i < n2; ++i) row[i] = 0;
        }
    V sum = {};
    for (int64_t i = 0; i < n; i += kWidth) sum = sum + load_n<kWidth>(e + i, static_cast<int>(min64(kWidth, n - i)));
    const float total = sum_lanes<kWidth>(sum);
    const int64_t step[3] = {n1 * n2, n2, 1};
    for (int i = 2; i >= 0; --i) {
        float* sums = window_sums(e, other, n, a->axis[i].taps, a->axis[i].dilation * step[i]);
        if (sums != e) other = e, e = sums;
    }
    return {e, n2, n1 * n2, total >= kFaint ? total * static_cast<float>(a->share) : HUGE_VALF};
}

FC_INLINE bool fft_any_quiet(const FftSeen& seen, const int64_t* extent) {
    for (int64_t i0 = 0; i0 < extent[0]; ++i0)
        for (int64_t i1 = 0; i1 < extent[1]; ++i1)
            for (int64_t i2 = 0; i2 < extent[2]; ++i2)
                if (seen.quiet(i0, i1, i2)) return true;
    return false;
}

// Outputs of a tile that `pick` picks, of group g and blocks begin .. end - 1 of f32_conv_direct's filters. Black pixels count
// as padding where weights are finite.
template <class Pick>
FC_NOINLINE void fft_direct(const FftArgs* a, const FftPlace& place, const int64_t* extent, int64_t g, bool finite, Redo r,
                            int64_t begin, int64_t end, Pick pick) {
    const float* x = a->x + place.image * a->x_image * a->ldx + g * a->C;
    const int64_t all = fft_taps(a);
    const auto compute = [&] {
        if (r.count) redo(a, r, all, g, a->direct, finite ? a->zeros : nullptr, begin, end);
        r.count = 0;
    };
    for (int64_t i0 = 0; i0 < extent[0]; ++i0)
        for (int64_t i1 = 0; i1 < extent[1]; ++i1)
            for (int64_t i2 = 0; i2 < extent[2]; ++i2) {
                if (!pick(i0, i1, i2)) continue;
                const int64_t i[3] = {place.at[0] + i0, place.at[1] + i1, place.at[2] + i2};
                int64_t pixel = place.image * a->y_image;
                for (int d = 0; d < 3; ++d) pixel += i[d] * a->axis[d].out_step;
                r.out[r.count] = a->y + pixel * a->ldy;
                if (a->residual) r.res[r.count] = a->residual + pixel * a->ldr;
                const float** px = r.px + r.count;
                int64_t tap[3] = {0, 0, 0};
                for (int64_t t = 0; t < all; ++t, px += r.pitch) {
                    int64_t from = 0;
                    bool inside = true;
                    for (int d = 0; d < 3; ++d) {
                        const FftAxis& axis = a->axis[d];
                        const int64_t p = i[d] - axis.low + tap[d] * axis.dilation;
                        inside = inside && p >= 0 && p < axis.in;
                        from += p * axis.in_step;
                    }
                    *px = inside ? x + from * a->ldx : a->zeros;
                    if (inside && finite && is_black(*px, a->C)) *px = a->zeros;
                    for (int d = 2; d >= 0 && ++tap[d] == a->axis[d].taps && d; --d) tap[d] = 0;
                }
                if (++r.count == r.pitch) compute();
            }
    compute();
}

// ---- the same of depthwise tiles, lane by lane ---------------------------------------------------------------------------

// Pixels that are taken together along an axis when a tile is looked at first: about an eighth of a window.
FC_INLINE int64_t fft_cell(const FftAxis& axis) { return axis.dilation > 1 ? 1 : max64(1, axis.taps / 8); }
FC_INLINE int64_t fft_lanes_floats(const FftArgs* a) { return fft_seen_floats(a) * kWidth; }

// The energy of what windows hold, lane by lane, by cells of `cell` pixels: `at` is the one that the windows which begin in
// cell (0, 0, 0) hold at the least.
struct FftLanes {
    const float* energy;
    int64_t row, plane, at;
    V least;
    bool black;  // where a window holds nothing, that is nothing
    FC_INLINE V window(int64_t j0, int64_t j1, int64_t j2) const {
        return vload(energy + (at + j0 * plane + j1 * row + j2) * kWidth);
    }
};

FC_NOINLINE FftLanes fft_lanes(const FftArgs* a, const FftPlace& place, const int64_t* extent, const int64_t* cell,
                               const float* x, int lanes, float* work) {
    int64_t n[3], m[3];
    for (int i = 0; i < 3; ++i) n[i] = fft_reads(a->axis[i], extent[i]), m[i] = ceil_div(n[i], cell[i]);
    const FftAxis& A2 = a->axis[2];
    const int64_t all = m[0] * m[1] * m[2] * kWidth, first = place.at[2] - A2.low;
    float *e = work, *other = work + fft_lanes_floats(a) / 2;
    for (int64_t i = 0; i < all; i += kWidth) vstore(e + i, V{});
    Vi<kWidth> peak = {};
    V total = {};
    for (int64_t i0 = 0; i0 < n[0]; ++i0)
        for (int64_t i1 = 0; i1 < n[1]; ++i1) {
            const int64_t p0 = place.at[0] - a->axis[0].low + i0, p1 = place.at[1] - a->axis[1].low + i1;
            if (p0 < 0 || p0 >= a->axis[0].in || p1 < 0 || p1 >= a->axis[1].in) continue;
            float* to = e + (i0 / cell[0] * m[1] + i1 / cell[1]) * m[2] * kWidth;
            const float* row = x + (place.image * a->x_image + p0 * a->axis[0].in_step + p1 * a->axis[1].in_step) * a->ldx;
            for (int64_t j = 0; j < m[2]; ++j, to += kWidth) {
                V sum = vload(to);
                for (int64_t i = max64(j * cell[2], -first); i < min64(min64((j + 1) * cell[2], n[2]), A2.in - first); ++i) {
                    const V v = load_n<kWidth>(row + (first + i) * A2.in_step * a->ldx, lanes);
                    sum = mul_add<kWidth>(v, v, sum);
                    peak = larger<kWidth>(peak, magnitude_bits<kWidth>(v));
                }
                vstore(to, sum);
            }
        }
    for (int64_t i = 0; i < all; i += kWidth) total = total + vload(e + i);
    int64_t at[3], step[3] = {m[1] * m[2], m[2], 1}, origin = 0;
    for (int i = 2; i >= 0; --i) {
        at[i] = cell[i] > 1;  // a window holds whole cells: from the next one on, if it begins within one
        const int64_t held = a->axis[i].taps / cell[i] - at[i];
        float* sums = window_sums(e, other, all, held, a->axis[i].dilation * step[i] * kWidth);
        if (sums != e) other = e, e = sums;
        origin += at[i] * step[i];
    }
    const V share = splat<kWidth>(static_cast<float>(a->share)), none = splat<kWidth>(HUGE_VALF);
    V least = total >= splat<kWidth>(kFaint) ? total * share : none;
    least = peak >= splat_i<kWidth>(1 << 23) ? least : V{};  // a black lane is no quieter than its tile
    return {e, m[2], m[1] * m[2], origin, least, !any_lane<kWidth>((peak >= splat_i<kWidth>(1 << 23)) & (total < splat<kWidth>(0x1p-30f)))};
}

// Whether any window may be quiet in any lane.
FC_NOINLINE bool fft_any_quiet_lane(const FftArgs* a, const FftPlace& place, const int64_t* extent, const float* x, int lanes,
                                    float* work) {
    const int64_t cell[3] = {fft_cell(a->axis[0]), fft_cell(a->axis[1]), fft_cell(a->axis[2])};
    const FftLanes seen = fft_lanes(a, place, extent, cell, x, lanes, work);
    Vi<kWidth> enough = splat_i<kWidth>(-1);
    for (int64_t j0 = 0; j0 < ceil_div(extent[0], cell[0]); ++j0)
        for (int64_t j1 = 0; j1 < ceil_div(extent[1], cell[1]); ++j1)
            for (int64_t j2 = 0; j2 < ceil_div(extent[2], cell[2]); ++j2) enough &= seen.window(j0, j1, j2) >= seen.least;
    return any_lane<kWidth>(~enough);
}

// One sample by the definition, of `lanes` channels at x; w: [tap][lane].
FC_INLINE V fft_sample(const FftArgs* a, const FftPlace& place, const float* x, int lanes, const float* w, int64_t i0, int64_t i1,
                       int64_t i2) {
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    V sum = {};
    for (int64_t r0 = 0; r0 < A0.taps; ++r0)
        for (int64_t r1 = 0; r1 < A1.taps; ++r1, w += A2.taps * kWidth) {
            const int64_t p0 = place.at[0] - A0.low + i0 + r0 * A0.dilation, p1 = place.at[1] - A1.low + i1 + r1 * A1.dilation;
            const bool inside = p0 >= 0 && p0 < A0.in && p1 >= 0 && p1 < A1.in;
            const float* row = x + (place.image * a->x_image + p0 * A0.in_step + p1 * A1.in_step) * a->ldx;
            for (int64_t r2 = 0; r2 < A2.taps; ++r2) {
                const int64_t p2 = place.at[2] - A2.low + i2 + r2 * A2.dilation;
                V v = {};
                if (inside && p2 >= 0 && p2 < A2.in) v = load_n<kWidth>(row + p2 * A2.in_step * a->ldx, lanes);
                sum = mul_add<kWidth>(v, vload(w + r2 * kWidth), sum);
            }
        }
    return sum;
}

// The weights of `lanes` channels, [tap][lane].
FC_INLINE void fft_gather(const FftArgs* a, const float* w, int lanes, float* to) {
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    for (int64_t t = 0; t < fft_taps(a); ++t, to += kWidth) {
        const int64_t r2 = t % A2.taps, r1 = t / A2.taps % A1.taps, r0 = t / (A2.taps * A1.taps);
        const float* tap = w + r0 * A0.tap_step + r1 * A1.tap_step + r2 * A2.tap_step;
        for (int i = 0; i < kWidth; ++i) to[i] = i < lanes ? tap[i * a->sk] : 0.0f;
    }
}

// The samples in the grid by the definition: all of them, or those of quiet windows in the lanes in which they are. x is at
// the first of `lanes` channels, w at their weights; work: fft_lanes_floats and the taps' vectors.
FC_NOINLINE void fft_direct_depthwise(const FftArgs* a, const FftPlace& place, const float* x, const float* w, int lanes,
                                      float* grid, const int64_t* extent, bool all, float* work) {
    const int64_t pitch = fft_columns(a) * kPair, cell[3] = {1, 1, 1};
    float* taps = work + fft_lanes_floats(a);
    fft_gather(a, w, lanes, taps);
    FftLanes seen = {};
    if (!all) seen = fft_lanes(a, place, extent, cell, x, lanes, work);
    for (int64_t i0 = 0; i0 < extent[0]; ++i0)
        for (int64_t i1 = 0; i1 < extent[1]; ++i1)
            for (int64_t i2 = 0; i2 < extent[2]; ++i2) {
                float* at = grid + (i0 * a->axis[1].size + i1) * pitch + i2 * kWidth;
                if (all) {
                    vstore(at, fft_sample(a, place, x, lanes, taps, i0, i1, i2));
                    continue;
                }
                const V energy = seen.window(i0, i1, i2);
                const Vi<kWidth> quiet = ~(energy >= seen.least), holds = ~(energy == V{});
                if (!any_lane<kWidth>(quiet)) continue;
                V v = {};
                if (!seen.black || any_lane<kWidth>(quiet & holds)) v = fft_sample(a, place, x, lanes, taps, i0, i1, i2);
                vstore(at, quiet ? v : vload(at));
            }
}

// The samples in the grid, as outputs: bias, residual, activation. k: the first filter.
FC_INLINE void fft_epilogue(const FftArgs* a, const FftPlace& place, const float* grid, const int64_t* extent, int64_t k,
                            int lanes) {
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    const int64_t pitch = fft_columns(a) * kPair;
    const float low = static_cast<float>(a->act_a), high = static_cast<float>(a->act_b);
    const V bias = a->bias ? load_n<kWidth>(a->bias + k, lanes) : V{};
    for (int64_t i0 = 0; i0 < extent[0]; ++i0)
        for (int64_t i1 = 0; i1 < extent[1]; ++i1) {
            const float* row = grid + (i0 * A1.size + i1) * pitch;
            const int64_t pixel = place.image * a->y_image + (place.at[0] + i0) * A0.out_step +
                                  (place.at[1] + i1) * A1.out_step + place.at[2] * A2.out_step;
            for (int64_t i2 = 0; i2 < extent[2]; ++i2) {
                const int64_t at = pixel + i2 * A2.out_step;
                __builtin_prefetch(a->y + at * a->ldy + k + kWidth, 1, 2);  // the next block
                V v = vload(row + i2 * kWidth) + bias;
                if (a->residual) v = v + load_n<kWidth>(a->residual + at * a->ldr + k, lanes);
                store_n<kWidth>(a->y + at * a->ldy + k, activate<kWidth>(v, a->act, low, high), lanes);
            }
        }
}

}  // namespace
}  // namespace
#endif
