// Gradients of pooling. Every input pixel gathers from the windows that cover it, in a fixed order, so overlapping
// windows need no atomics and no zeroing. Where windows do not overlap, the walk goes over the windows instead, each of
// which owns a box of input pixels.
//
//     gather, 4 vectors of channels of one input pixel:   acc[m] += (index[o][m] == tap) ? gy[o][m] : 0
//
// Bound by the loads of gy and of the indices (gather) or by the stores to gx (boxes).
#include "fastconv/pool/index.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// The windows of an axis that cover an input coordinate: `count` from window o on, `ostep` apart; the coordinate is tap
// k of the first and k + i*kstep of the i-th (adaptive: it is numbered by itself).
struct Cover {
    int64_t o, ostep, count, k, kstep;
};

FC_INLINE int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        const int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

FC_INLINE Cover pool_cover(const PoolAxis& x, int64_t i) {
    if (x.adaptive) {
        const int64_t o = i * x.out / x.in;
        return {o, 1, ceil_div((i + 1) * x.out, x.in) - o, i, 0};
    }
    // Window o sees i at distance t = i + p - o*s from its start; a tap is a multiple of the dilation up to its span.
    const int64_t q = i + x.p, span = (x.k - 1) * x.dil;
    int64_t o = min64(q / x.s, x.out - 1);
    if (x.dil == 1) {
        const int64_t t = q - o * x.s;
        if (t > span) return {0, 0, 0, 0, 0};
        return {o, -1, min64(o, (span - t) / x.s) + 1, t, x.s};
    }
    const int64_t period = x.dil / gcd(x.s, x.dil);
    for (int64_t tries = 1; tries < period && o >= 0 && (q - o * x.s) % x.dil; ++tries) --o;
    const int64_t t = q - o * x.s;
    if (o < 0 || t % x.dil || t > span) return {0, 0, 0, 0, 0};
    const int64_t step = period * x.s;
    return {o, -period, min64(o / period, (span - t) / step) + 1, t / x.dil, step / x.dil};
}

// ---- gather ---------------------------------------------------------------------------------------------------------

template <class Index>
struct MaxGather {
    const PoolArgs* a;
    explicit MaxGather(const PoolArgs* args) : a(args) {}
    FC_INLINE void plane(int64_t, int64_t) {}

    template <int W, int M, bool kFull>
    FC_INLINE void add(Vf<W>* acc, int64_t pixel, int64_t tap, int64_t, int64_t c, int lanes) const {
        const float* gy = a->y + pixel * a->ldy + c;
        const Index* index = static_cast<const Index*>(a->index) + pixel * a->ldi + c;
        const Vi<W> mine = splat_i<W>(static_cast<int32_t>(tap));
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            const Vi<W> won = load_index<W, kFull>(index + m * W, lanes) == mine;
            acc[m] += won ? load_lanes<W, kFull>(gy + m * W, lanes) : Vf<W>{};
        }
    }
};

struct AvgGather {
    const PoolArgs* a;
    PoolAxis ad, ah, aw;
    bool uniform;   // every window is divided by the same
    float share;    // then 1 / divisor
    int64_t outer;  // else the divisor's part of D and H, for the plane in hand

    static FC_INLINE bool axis_uniform(const PoolAxis& x, bool include_pad) {
        if (x.adaptive) return x.in % x.out == 0;
        const int64_t last = (x.out - 1) * x.s - x.p + x.k;  // the end of the last window
        return include_pad ? last <= x.in + x.q : x.p == 0 && last <= x.in;
    }
    explicit AvgGather(const PoolArgs* args) : a(args), ad(axis_d(a)), ah(axis_h(a)), aw(axis_w(a)), outer(1) {
        const bool pad = a->include_pad;
        uniform = false;
        plane(0, 0);
        uniform = a->divisor || (axis_uniform(ad, pad) && axis_uniform(ah, pad) && axis_uniform(aw, pad));
        share = 1.0f / static_cast<float>(a->divisor ? a->divisor : max64(1, outer * pool_span(aw, 0, pad).divisor));
    }
    FC_INLINE void plane(int64_t od, int64_t oh) {
        if (!uniform) outer = pool_span(ad, od, a->include_pad).divisor * pool_span(ah, oh, a->include_pad).divisor;
    }
    template <int W, int M, bool kFull>
    FC_INLINE void add(Vf<W>* acc, int64_t pixel, int64_t, int64_t ow, int64_t c, int lanes) const {
        const float* gy = a->y + pixel * a->ldy + c;
        float part = share;
        if (!uniform) part = 1.0f / static_cast<float>(max64(1, outer * pool_span(aw, ow, a->include_pad).divisor));
        const Vf<W> scale = splat<W>(part);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) acc[m] = mul_add<W>(load_lanes<W, kFull>(gy + m * W, lanes), scale, acc[m]);
    }
};

template <class Gather, int W, int M, bool kFull>
FC_INLINE void gather_vectors(const PoolArgs* a, Gather& gather, int64_t n, const Cover& d, const Cover& h,
                              const Cover& w, float* gx, int64_t c, int lanes) {
    const int64_t tap_h = a->adaptive ? a->xW : a->kW, tap_d = (a->adaptive ? a->xH : a->kH) * tap_h;
    Vf<W> acc[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) acc[m] = Vf<W>{};
    for (int64_t i = 0; i < d.count; ++i)
        for (int64_t j = 0; j < h.count; ++j) {
            const int64_t od = d.o + i * d.ostep, oh = h.o + j * h.ostep;
            const int64_t row = ((n * a->yD + od) * a->yH + oh) * a->yW;
            const int64_t tap = (d.k + i * d.kstep) * tap_d + (h.k + j * h.kstep) * tap_h;
            gather.plane(od, oh);
            for (int64_t k = 0; k < w.count; ++k) {
                const int64_t ow = w.o + k * w.ostep;
                gather.template add<W, M, kFull>(acc, row + ow, tap + w.k + k * w.kstep, ow, c, lanes);
            }
        }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) store_lanes<W, kFull>(gx + c + m * W, acc[m], lanes);
}

FC_INLINE int64_t windows_per_pixel(const PoolArgs* a) {
    return ceil_div(a->kD, a->sD) * ceil_div(a->kH, a->sH) * ceil_div(a->kW, a->sW);
}
FC_INLINE PoolCut pool_gather_cut(const PoolArgs* a) {
    return pool_cut(a->n * a->xD * a->xH, a->xW, a->C, 1 + (a->adaptive ? 1 : windows_per_pixel(a)));
}

template <class Gather, int W>
FC_INLINE void pool_gather(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    const PoolCut cut = pool_gather_cut(a);
    const PoolAxis ad = axis_d(a), ah = axis_h(a), aw = axis_w(a);
    Gather gather(a);
    Cover* covers = static_cast<Cover*>(scratch);
    int64_t known = -1;  // the covers in scratch are those from this column on
    for (int64_t tile = begin; tile < end; ++tile) {
        const PoolPart part = pool_part(cut, tile);
        if (known != part.w0) {
            for (int64_t w = part.w0; w < part.w1; ++w) covers[w - part.w0] = pool_cover(aw, w);
            known = part.w0;
        }
        PoolRow at_row = pool_row(part.row0, a->xD, a->xH);
        for (int64_t row = part.row0; row < part.row1; ++row, next_row(at_row, a->xD, a->xH)) {
            const int64_t n = at_row.n;
            const Cover d = pool_cover(ad, at_row.d), h = pool_cover(ah, at_row.h);
            for (int64_t w = part.w0; w < part.w1; ++w) {
                const Cover& cover = covers[w - part.w0];
                float* gx = a->x + (row * a->xW + w) * a->ldx;
                int64_t c = part.c0;
                for (; c + 4 * W <= part.c1; c += 4 * W)
                    gather_vectors<Gather, W, 4, true>(a, gather, n, d, h, cover, gx, c, W);
                for (; c + W <= part.c1; c += W)
                    gather_vectors<Gather, W, 1, true>(a, gather, n, d, h, cover, gx, c, W);
                const int lanes = static_cast<int>(part.c1 - c);
                if (lanes) gather_vectors<Gather, W, 1, false>(a, gather, n, d, h, cover, gx, c, lanes);
            }
        }
    }
}

// ---- boxes ----------------------------------------------------------------------------------------------------------

FC_INLINE bool pool_disjoint(const PoolArgs* a) {
    return !a->adaptive && a->sD > (a->kD - 1) * a->dilD && a->sH > (a->kH - 1) * a->dilH &&
           a->sW > (a->kW - 1) * a->dilW;
}
FC_INLINE PoolCut pool_box_cut(const PoolArgs* a) {
    const int64_t box = ceil_div(a->xD, a->yD) * ceil_div(a->xH, a->yH) * ceil_div(a->xW, a->yW);
    return pool_cut(a->n * a->yD * a->yH, a->yW, a->C, 1 + box);
}

// The input coordinates that window o of an axis owns: its own stride's, those before the first, those behind the last.
struct Box {
    int64_t begin, end, start;  // start: the coordinate of tap 0
};
FC_INLINE Box pool_box(const PoolAxis& x, int64_t o) {
    const int64_t start = o * x.s - x.p;
    const int64_t begin = min64(x.in, max64(0, start)), end = min64(x.in, max64(0, start + x.s));
    return {o == 0 ? 0 : begin, o == x.out - 1 ? x.in : end, start};
}
// The tap at a coordinate, or -1.
FC_INLINE int64_t tap_at(const PoolAxis& x, const Box& box, int64_t i) {
    const int64_t t = i - box.start;
    if (t < 0 || t > (x.k - 1) * x.dil) return -1;
    if (x.dil == 1) return t;
    return t % x.dil ? -1 : t / x.dil;
}

// What a window gives to the pixel at one of its taps (-1: to a pixel that is none).
template <class Index>
struct MaxShare {
    FC_INLINE MaxShare(const PoolArgs*, const PoolRow&, int64_t) {}
    template <int W, bool kFull>
    struct Value {
        Vf<W> g;
        Vi<W> won;
        FC_INLINE Value(const MaxShare&, const PoolArgs* a, int64_t pixel, int64_t c, int lanes)
            : g(load_lanes<W, kFull>(a->y + pixel * a->ldy + c, lanes)),
              won(load_index<W, kFull>(static_cast<const Index*>(a->index) + pixel * a->ldi + c, lanes)) {}
        // An index of -1 or 255 is nobody's, and so is the tap -2.
        FC_INLINE Vf<W> at(int64_t tap) const {
            return won == splat_i<W>(static_cast<int32_t>(tap < 0 ? -2 : tap)) ? g : Vf<W>{};
        }
    };
};
struct AvgShare {
    float part;
    FC_INLINE AvgShare(const PoolArgs* a, const PoolRow& row, int64_t ow) {
        const bool pad = a->include_pad;
        const int64_t count = pool_span(axis_d(a), row.d, pad).divisor * pool_span(axis_h(a), row.h, pad).divisor *
                              pool_span(axis_w(a), ow, pad).divisor;
        part = 1.0f / static_cast<float>(a->divisor ? a->divisor : max64(1, count));
    }
    template <int W, bool kFull>
    struct Value {
        Vf<W> g;
        FC_INLINE Value(const AvgShare& share, const PoolArgs* a, int64_t pixel, int64_t c, int lanes)
            : g(load_lanes<W, kFull>(a->y + pixel * a->ldy + c, lanes) * splat<W>(share.part)) {}
        FC_INLINE Vf<W> at(int64_t tap) const { return tap < 0 ? Vf<W>{} : g; }
    };
};

// Calls each(gx, tap) for every pixel of a box.
template <class Each>
FC_INLINE void walk_box(const PoolArgs* a, const PoolAxis* axis, int64_t n, const Box& bd, const Box& bh, const Box& bw,
                        Each each) {
    for (int64_t d = bd.begin; d < bd.end; ++d)
        for (int64_t h = bh.begin; h < bh.end; ++h) {
            const int64_t kd = tap_at(axis[0], bd, d), kh = tap_at(axis[1], bh, h);
            const int64_t base = kd < 0 || kh < 0 ? -1 : (kd * a->kH + kh) * a->kW;
            float* gx = a->x + ((n * a->xD + d) * a->xH + h) * a->xW * a->ldx;
            for (int64_t w = bw.begin; w < bw.end; ++w) {
                const int64_t kw = tap_at(axis[2], bw, w);
                each(gx + w * a->ldx, base < 0 || kw < 0 ? -1 : base + kw);
            }
        }
}

template <class Share, int W>
FC_INLINE void pool_boxes(const PoolArgs* a, int64_t begin, int64_t end) {
    using Full = typename Share::template Value<W, true>;
    using Tail = typename Share::template Value<W, false>;
    const PoolCut cut = pool_box_cut(a);
    const PoolAxis axis[3] = {axis_d(a), axis_h(a), axis_w(a)};
    for (int64_t tile = begin; tile < end; ++tile) {
        const PoolPart part = pool_part(cut, tile);
        const int64_t c0 = part.c0, c1 = part.c1, whole = c0 + (c1 - c0) / W * W;
        const int lanes = static_cast<int>(c1 - whole);
        PoolRow at_row = pool_row(part.row0, a->yD, a->yH);
        for (int64_t row = part.row0; row < part.row1; ++row, next_row(at_row, a->yD, a->yH)) {
            const Box bd = pool_box(axis[0], at_row.d), bh = pool_box(axis[1], at_row.h);
            for (int64_t ow = part.w0; ow < part.w1; ++ow) {
                const Box bw = pool_box(axis[2], ow);
                const int64_t pixel = row * a->yW + ow;
                const Share share(a, at_row, ow);
                if (c1 - c0 == W) {  // one vector stays in a register for the whole box
                    const Full v(share, a, pixel, c0, W);
                    walk_box(a, axis, at_row.n, bd, bh, bw,
                             [&](float* gx, int64_t tap) { store<W>(gx + c0, v.at(tap)); });
                } else if (c1 - c0 < W) {
                    const Tail v(share, a, pixel, c0, lanes);
                    walk_box(a, axis, at_row.n, bd, bh, bw,
                             [&](float* gx, int64_t tap) { store_n<W>(gx + c0, v.at(tap), lanes); });
                } else {  // pixel by pixel, so that the stores run through memory in order
                    walk_box(a, axis, at_row.n, bd, bh, bw, [&](float* gx, int64_t tap) {
                        for (int64_t c = c0; c < whole; c += W)
                            store<W>(gx + c, Full(share, a, pixel, c, W).at(tap));
                        if (lanes)
                            store_n<W>(gx + whole, Tail(share, a, pixel, whole, lanes).at(tap), lanes);
                    });
                }
            }
        }
    }
}

// ---- kernels --------------------------------------------------------------------------------------------------------

template <class Gather, class Share, bool kOften = true>
FC_INLINE void pool_backward(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    if (pool_disjoint(a)) {
        if (kOften && a->C <= kHalf) {
            pool_boxes<Share, kHalf>(a, begin, end);
        } else {
            pool_boxes<Share, kWidth>(a, begin, end);
        }
    } else if (kOften && a->C <= kHalf) {
        pool_gather<Gather, kHalf>(a, begin, end, scratch);
    } else {
        pool_gather<Gather, kWidth>(a, begin, end, scratch);
    }
}
FC_INLINE int64_t pool_backward_tiles(const PoolArgs* a) {
    return pool_disjoint(a) ? pool_box_cut(a).tiles : pool_gather_cut(a).tiles;
}
FC_INLINE size_t pool_backward_scratch(const PoolArgs* a) {
    return pool_disjoint(a) ? 0 : static_cast<size_t>(pool_gather_cut(a).piece) * sizeof(Cover);
}

FC_INLINE int64_t f32_maxpool_backward_u8_tiles(const PoolArgs* a) { return pool_backward_tiles(a); }
FC_INLINE size_t f32_maxpool_backward_u8_scratch(const PoolArgs* a) { return pool_backward_scratch(a); }
inline void f32_maxpool_backward_u8_run(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    pool_backward<MaxGather<uint8_t>, MaxShare<uint8_t>>(a, begin, end, scratch);
}

FC_INLINE int64_t f32_maxpool_backward_i32_tiles(const PoolArgs* a) { return pool_backward_tiles(a); }
FC_INLINE size_t f32_maxpool_backward_i32_scratch(const PoolArgs* a) { return pool_backward_scratch(a); }
inline void f32_maxpool_backward_i32_run(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    pool_backward<MaxGather<int32_t>, MaxShare<int32_t>, false>(a, begin, end, scratch);
}

FC_INLINE int64_t f32_avgpool_backward_tiles(const PoolArgs* a) { return pool_backward_tiles(a); }
FC_INLINE size_t f32_avgpool_backward_scratch(const PoolArgs* a) { return pool_backward_scratch(a); }
inline void f32_avgpool_backward_run(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    pool_backward<AvgGather, AvgShare>(a, begin, end, scratch);
}

}  // namespace
}  // namespace
