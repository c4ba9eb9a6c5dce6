// What the kernels of the depthwise family share: how filters are cut into vectors, outputs into tiles and tiles into
// units of work.
//
// A vector holds filters of neighbouring groups. The input of a depthwise convolution is the same channels; with a
// multiplier or several channels per group it is one load of the groups' channels and a permutation per channel of the
// group, so that no lane multiplies a zero: filter i of a vector reads channel (i / K) * C + c for c = 0 .. C - 1.
//
// Dilation and stride share a factor g. Outputs that are phases = dilation / g apart read the same taps' pixels: within
// such a phase the problem is one of stride / g and dilation 1 over every dilation-th pixel, and that is what the tiles
// compute. Without dilation there is one phase.
#ifndef FASTCONV_DEPTHWISE_INL_H
#define FASTCONV_DEPTHWISE_INL_H

#include "fastconv/simd/activation.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kLanesBlock = 128;     // filters that a unit works on, at the least: their pixels are 512 contiguous bytes
constexpr int64_t kUnits = 16;           // that there are to be, before units take more filters than that
constexpr int64_t kUnitWork = 24000;     // multiply-adds of vectors that are worth a unit

// ---- vectors of filters -----------------------------------------------------------------------------------------------

// Either `groups` whole groups per vector (K < kWidth), or `blocks` vectors per group.
struct Lanes {
    int64_t groups, blocks, per, count;
    alignas(64) int32_t channel[kWidth];  // of lane i, for the first channel of its group
};

FC_INLINE int64_t lanes_count(const DepthwiseArgs* a) {
    return a->K < kWidth ? ceil_div(a->G, min64(kWidth / a->K, kWidth / a->C)) : a->G * ceil_div(a->K, kWidth);
}

FC_INLINE Lanes make_lanes(const DepthwiseArgs* a) {
    Lanes l;
    l.groups = a->K < kWidth ? min64(kWidth / a->K, kWidth / a->C) : 0;
    l.blocks = ceil_div(a->K, kWidth);
    l.per = l.groups ? l.groups * a->K : kWidth;
    l.count = lanes_count(a);
    for (int64_t i = 0; i < kWidth; ++i)
        l.channel[i] = l.groups && i < l.per ? static_cast<int32_t>(i / a->K * a->C) : 0;
    return l;
}

// One vector: its first filter and channel, how many of each, where its weights begin.
struct Lane {
    int64_t k, c;
    int n, span;
    int64_t w;
};

FC_INLINE Lane lane(const DepthwiseArgs* a, const Lanes& l, int64_t v) {
    int64_t k, c, n, span;
    if (l.groups) {
        k = v * l.per, c = v * l.groups * a->C;
        n = min64(l.per, a->G * a->K - k), span = n / a->K * a->C;
    } else {
        const int64_t g = v / l.blocks, first = v % l.blocks * kWidth;
        k = g * a->K + first, c = g * a->C;
        n = min64(kWidth, a->K - first), span = a->C;
    }
    return {k, c, static_cast<int>(n), static_cast<int>(span), k * a->kD * a->kH * a->kW * a->C};
}

// ---- outputs ----------------------------------------------------------------------------------------------------------

struct Axis {
    int64_t outputs, phases, stride;  // within a phase, in units of the dilation
    int64_t unit, step, low, size;    // dilation, stride and padding of the problem, extent of the input
};

FC_INLINE Axis make_axis(int64_t outputs, int64_t stride, int64_t dilation, int64_t low, int64_t size) {
    int64_t a = stride, g = dilation;
    while (a) {
        const int64_t t = g % a;
        g = a, a = t;
    }
    return {outputs, max64(1, min64(outputs, dilation / g)), stride / g, dilation, stride, low, size};
}
// Outputs of phase f: f, f + phases, ...
FC_INLINE int64_t phase_outputs(const Axis& x, int64_t f) { return (x.outputs - f + x.phases - 1) / x.phases; }

// All phases' outputs in groups of at most R. The first outputs % phases phases have one output more than the others.
FC_INLINE int64_t axis_groups(const Axis& x, int64_t R) {
    const int64_t more = x.outputs % x.phases, each = x.outputs / x.phases;
    return more * ceil_div(each + 1, R) + (x.phases - more) * ceil_div(each, R);
}
// Group i: its phase, its first output within the phase, how many.
struct Group {
    int64_t phase, first, count;
};
FC_INLINE Group axis_group(const Axis& x, int64_t R, int64_t i) {
    if (x.phases == 1) return {0, i * R, min64(R, x.outputs - i * R)};
    const int64_t more = x.outputs % x.phases, each = x.outputs / x.phases, many = ceil_div(each + 1, R);
    int64_t f, q;
    if (i < more * many) {
        f = i / many, q = i % many * R;
    } else {
        i -= more * many;
        f = more + i / ceil_div(each, R), q = i % ceil_div(each, R) * R;
    }
    return {f, q, min64(R, phase_outputs(x, f) - q)};
}

// The input positions first + i * unit, i < count, that exist: i in [begin, end).
struct Span {
    int64_t first, begin, end;
};
FC_INLINE Span input_span(const Axis& x, int64_t phase, int64_t q, int64_t count) {
    const int64_t first = phase * x.step - x.low + x.unit * x.stride * q;
    int64_t begin = 0, end = 0;
    if (x.unit == 1) {
        begin = first < 0 ? -first : 0;
        end = x.size - first;
    } else {
        begin = first < 0 ? ceil_div(-first, x.unit) : 0;
        end = first < x.size ? ceil_div(x.size - first, x.unit) : 0;
    }
    end = min64(end, count);
    return {first, begin, max64(begin, end)};
}
FC_INLINE uint32_t span_mask(const Span& s) {
    return s.begin >= 32 ? 0u : static_cast<uint32_t>((uint64_t{1} << s.end) - (uint64_t{1} << s.begin));
}

// A tile of outputs: row i of taps' pixels lies at x + i * row, column j at + j * column, depth d at + d * depth.
struct Spot {
    const float* x;
    int64_t depth, row, column;
    int64_t d0, d1, i0, i1, j0, j1;  // depths, rows and columns that exist
    uint32_t rows, columns;          // the same as bits, for tiles with less than 32 of them
    int64_t y, r;                    // offsets of the first output in the output and the residual
    int64_t y_row, y_column, r_row, r_column;
    bool stream;                     // outputs go past the caches
    bool direct;                     // no residual, and an activation that is limits: a tile ends in its registers
    float low, high;                 // those limits
};

struct Shape {
    Axis d, h, w;
    Lanes lanes;
    int64_t block, blocks;           // vectors per unit
};

// Vectors per unit where all vectors together would be `units` units. Pixels are read in longer runs then, which is what
// the processor's own prefetch needs.
FC_INLINE int64_t unit_block(int64_t vectors, int64_t units) {
    return max64(1, min64(vectors, max64(kLanesBlock / kWidth, ceil_div(vectors * units, kUnits))));
}

FC_INLINE void set_block(Shape& s, int64_t block) {
    s.block = block;
    s.blocks = ceil_div(s.lanes.count, block);
}

FC_INLINE Shape make_shape(const DepthwiseArgs* a) {
    Shape s;
    s.d = make_axis(a->iD, a->sd, a->dd, a->pd, a->xD);
    s.h = make_axis(a->iH, a->sh, a->dh, a->ph, a->xH);
    s.w = make_axis(a->iW, a->sw, a->dw_, a->pw, a->xW);
    s.lanes = make_lanes(a);
    set_block(s, kLanesBlock / kWidth);
    return s;
}

// What all tiles of a row of outputs share; depth is output depth d.
FC_INLINE void place_rows(const DepthwiseArgs* a, const Shape& s, int64_t image, int64_t d, const Group& rows,
                          int64_t taps_rows, Spot& at) {
    const int64_t depth = d * s.d.step - s.d.low;
    at.d0 = depth < 0 ? ceil_div(-depth, s.d.unit) : 0;
    at.d1 = max64(at.d0, min64(a->kD, depth < s.d.size ? ceil_div(s.d.size - depth, s.d.unit) : 0));
    const Span h = input_span(s.h, rows.phase, rows.first, taps_rows);
    at.i0 = h.begin, at.i1 = h.end, at.rows = taps_rows < 32 ? span_mask(h) : 0;
    at.column = s.w.unit * a->ldx;
    at.row = s.h.unit * a->xW * a->ldx;
    at.depth = s.d.unit * a->xH * a->xW * a->ldx;
    at.x = a->x + ((image * a->xD + depth) * a->xH + h.first) * a->xW * a->ldx;
    const int64_t out = rows.phase + rows.first * s.h.phases;
    const int64_t pixel = ((image * a->yD + a->od + d * a->odd) * a->yH + a->oh + out * a->ohh) * a->yW + a->ow;
    at.y = pixel * a->ldy, at.r = pixel * a->ldr;
    at.y_row = s.h.phases * a->ohh * a->yW * a->ldy, at.r_row = s.h.phases * a->ohh * a->yW * a->ldr;
    at.y_column = s.w.phases * a->oww * a->ldy, at.r_column = s.w.phases * a->oww * a->ldr;
}

// A tile in these rows, which are `row`: only what depends on the column changes in `at`.
FC_INLINE void place_columns(const DepthwiseArgs* a, const Shape& s, const Spot& row, int64_t phase, int64_t q,
                             int64_t taps_columns, Spot& at) {
    const Span w = input_span(s.w, phase, q, taps_columns);
    at.j0 = w.begin, at.j1 = w.end, at.columns = taps_columns < 32 ? span_mask(w) : 0;
    at.x = row.x + w.first * a->ldx;
    const int64_t out = (phase + q * s.w.phases) * a->oww;
    at.y = row.y + out * a->ldy, at.r = row.r + out * a->ldr;
}

// ---- memory -----------------------------------------------------------------------------------------------------------

// Rows are fetched ahead where images and results together are larger: what was just made is in the third-level cache up to
// about this size; what backward to weights reads was made long ago. For rows of taps a single image is fetched ahead from
// where the second level ends (Zen 5, images of users' that no layer has just made: 64x64x240 5x5 1.40 -> 0.46 ms); for
// tiles of 3x3, of which the processor's own prefetch keeps pace, that cost a third of the speed.
constexpr int64_t kAheadBytes = 20 << 20, kAheadWeightBytes = 16 << 20, kAheadImage = 4 << 20;
constexpr int64_t kStreamBytes = 8 << 20;   // outputs that it would not keep for their reader: they go past it

FC_INLINE bool fetches_ahead(const DepthwiseArgs* a, int64_t bytes, bool rows = false) {
    const int64_t x = a->xD * a->xH * a->xW * a->ldx, y = a->yD * a->yH * a->yW * a->ldy;
    return a->n * (x + y) * 4 > bytes || (rows && a->n == 1 && (x + y) * 4 > kAheadImage);
}
FC_INLINE bool streams(const DepthwiseArgs* a) {
    return a->n * a->yD * a->yH * a->yW * a->ldy * 4 > kStreamBytes && a->ldy % kWidth == 0 &&
           reinterpret_cast<uintptr_t>(a->y) % (4 * kWidth) == 0 && a->K == 1 && a->C == 1;
}
// What all tiles of a run share.
FC_INLINE void set_ends(const DepthwiseArgs* a, Spot& s) {
    const float inf = __builtin_inff();
    s.stream = streams(a);
    s.direct = !a->residual && a->act != FC_ACT_LEAKY;
    s.low = a->act == FC_ACT_RELU ? 0.0f : a->act == FC_ACT_CLIP ? static_cast<float>(a->act_a) : -inf;
    s.high = a->act == FC_ACT_CLIP ? static_cast<float>(a->act_b) : inf;
}
// The tile of outputs that lies as far ahead: for vectors that do not begin where lines of the cache do.
FC_INLINE void fetch_outputs(const float* p, int64_t rows, int64_t row, int64_t columns, int64_t column) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) __builtin_prefetch(p + i * row + j * column, 1, 3);
}
// One vector of the pixels of a tile that come into the next group of rows. Into the first level: hints for the second
// alone were dropped where stores past the caches kept the queues full (Zen 5: 3.6 ms instead of 1.6).
FC_INLINE void fetch_rows(const float* p, int64_t rows, int64_t row, int64_t columns, int64_t column) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) __builtin_prefetch(p + i * row + j * column, 0, 3);
}

// ---- loads ------------------------------------------------------------------------------------------------------------

// The first n floats; under a mask where there are masks, for a branch at each load would cost more than the load.
template <int W>
FC_INLINE Vf<W> load_lanes(const float* p, int n) {
    if constexpr (W > 4) return Ops<W>::load_n(p, n);
    return load_n<W>(p, n);
}
// The vectors of a tile's pixels next to each other, each loaded once: pixels often lie a power of two apart, and before a
// group's last channel is reached the first-level cache would have lost those of the first.
template <int W, int I, int J, bool kInside>
FC_INLINE void gather_pixels(const float* x, int64_t row, int64_t column, uint32_t rows, uint32_t columns, int span,
                             float* px) {
    for (int i = 0; i < I; ++i) {
        if (!kInside && !(rows >> i & 1u)) continue;
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j)
            if (kInside || columns >> j & 1u) store<W>(px + (i * J + j) * W, load_lanes<W>(x + i * row + j * column, span));
    }
}
// The channels that one channel number of the groups is, in the lanes of their filters.
template <int W, bool kPlain>
FC_INLINE Vf<W> load_channels(const float* p, int span, Vi<W> which) {
    if constexpr (kPlain) return load<W>(p);
    return permute<W>(load_lanes<W>(p, span), which);
}
template <int W, bool kPlain>
FC_INLINE Vf<W> load_filters(const float* p, int n) {
    if constexpr (kPlain) return load<W>(p);
    return load_lanes<W>(p, n);
}

}  // namespace
}  // namespace
#endif
