// Backward to weights, without im2col: dw[t][c][k] = sum over pixels of x[pixel at tap t][c] * gy[pixel][k].
//
// Both operands are read where they lie (but gy from a copy where x is read at a stride and
// the pixels of gy lie a multiple of 512 bytes apart). The cut: `parts` ranges of pixels by slabs of the gradient (blocks by taps, what
// of them stays in the second-level cache); within a task a chunk of pixels goes through all tiles of the slab before the
// next one is read, so that x and gy come from memory once per slab. Partial sums of the parts are added in order when
// the gradient is unpacked. The cut depends on the problem alone. Each weight is one sequential sum over the pixels of a part.
#include "fastconv/simd/blocks.inl.h"
#include "fastconv/conv/weight_tile.inl.h"
#include "fastconv/simd/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kChunk = 128;             // pixels, at most: 32 filters of them and a tile's channels fit the first-level cache,
constexpr int64_t kChunkBytes = 384 * 1024; // all channels of them the second-level one
constexpr int64_t kSlabBytes = 512 * 1024;  // gradient per task
constexpr int64_t kPackedBlocks = 16;       // blocks of gy that a task copies, at most
constexpr int64_t kTasks = 32;              // at least, where the problem has so many tiles

FC_INLINE int64_t tap_rows(const ConvWeightArgs* a) {
    if (a->swapped || a->G > 1 || a->C > 6 || !all_inside(a)) return 1;
    const int rows[] = {1, tap_rows<1>(), tap_rows<2>(), tap_rows<3>(), tap_rows<4>(), tap_rows<5>(), tap_rows<6>()};
    return rows[a->C];
}

struct WeightCut {
    int64_t rows, values, width;         // taps per tile; height and width of the gradient at one tap
    int64_t blocks, per_slab, slabs;     // blocks of `width`
    int64_t taps_per_slab, tap_slabs;
    int64_t chunk;                       // pixels
    bool packs;                          // copies blocks of gy, whose pixels would evict each other from the first-level cache
};

FC_INLINE WeightCut weight_cut(const ConvWeightArgs* a) {
    WeightCut cut;
    cut.rows = tap_rows(a);
    cut.values = a->swapped ? a->K : a->C;
    cut.width = a->swapped ? a->C : a->K;
    cut.blocks = ceil_div(cut.width, kBlock);
    const int64_t steps = ceil_div(a->T, cut.rows), whole = cut.values * kBlock * 4;
    cut.chunk = kChunk;
    if (a->sw > 1) {  // of the first-level cache's sets the input's pixels take fewer: whole rows, and gy from a copy
        cut.chunk = max64(kChunk / 2, min64(kChunk, kChunkBytes / (4 * max64(1, a->C))));
        if (a->iW > 0 && a->iW <= cut.chunk) cut.chunk = cut.chunk / a->iW * a->iW;
    }
    cut.packs = a->sw > 1 && !a->swapped && cut.rows == 1 && a->ldy * 4 % 512 == 0 && a->C >= 16;
    const int64_t most = cut.packs ? kPackedBlocks : cut.blocks;
    int64_t n = max64(1, ceil_div(cut.blocks, most)), m = 1;  // the gradient in n slabs of blocks, m of taps
    for (;;) {
        cut.per_slab = ceil_div(cut.blocks, n);
        cut.slabs = ceil_div(cut.blocks, cut.per_slab);
        cut.taps_per_slab = ceil_div(steps, m) * cut.rows;
        cut.tap_slabs = ceil_div(a->T, max64(1, cut.taps_per_slab));
        const bool enough = a->parts * a->G * cut.slabs * cut.tap_slabs >= kTasks;
        if (enough && cut.per_slab * cut.taps_per_slab * whole <= kSlabBytes) break;
        if (n < cut.blocks) {
            ++n;
        } else if (m < steps) {
            ++m;
        } else {
            break;
        }
    }
    return cut;
}

FC_INLINE int64_t f32_conv_backward_weight_tiles(const ConvWeightArgs* a) {
    const WeightCut cut = weight_cut(a);
    return a->parts * a->G * cut.slabs * cut.tap_slabs;
}
FC_INLINE size_t f32_conv_backward_weight_scratch(const ConvWeightArgs* a) {
    const WeightCut cut = weight_cut(a);
    const int64_t panel = cut.packs ? cut.per_slab * cut.chunk * kBlock : 0;
    return 2 * kChunk * sizeof(void*) + static_cast<size_t>(panel) * sizeof(float);
}

// panel[block][pixel][filter in block]: `lanes` filters of `count` pixels, zeros behind them.
FC_INLINE void pack_pixels(const float* gy, int64_t ldy, int64_t count, int64_t lanes, float* panel) {
    for (int64_t at = 0; at < lanes; at += kBlock, panel += count * kBlock)
        for (int64_t p = 0; p < count; ++p)
#pragma GCC unroll 2
            for (int v = 0; v < 2; ++v) {
                const int64_t n = max64(0, min64(kWidth, lanes - at - v * kWidth));
                store<kWidth>(panel + p * kBlock + v * kWidth, load_n<kWidth>(gy + p * ldy + at + v * kWidth, static_cast<int>(n)));
            }
}

// The pixels [first, first + count) whose tap lies inside the image, as pairs of pointers into x and gy; how many.
FC_INLINE int64_t pixel_pairs(const ConvWeightArgs* a, const int32_t* tap, const float* x, const float* gy, int64_t ldy,
                              int64_t first, int64_t count, const float** xs, const float** ys) {
    const int64_t low = tap[2] < 0 ? ceil_div(-tap[2], a->sw) : 0;  // columns whose tap is inside
    const int64_t high = tap[2] < a->xW ? min64(a->iW, ceil_div(a->xW - tap[2], a->sw)) : 0;
    const int64_t step = a->sw * a->ldx;
    Position p = position(a, first);
    int64_t pairs = 0;
    for (int64_t m = 0; m < count;) {
        const int64_t run = min64(count - m, a->iW - p.w), d = p.d * a->sd + tap[0], h = p.h * a->sh + tap[1];
        if (d >= 0 && d < a->xD && h >= 0 && h < a->xH) {
            const int64_t from = max64(p.w, low), to = min64(p.w + run, high);
            const float* at = x + (((p.n * a->xD + d) * a->xH + h) * a->xW + from * a->sw + tap[2]) * a->ldx;
            const float* g = gy + (first + m + from - p.w) * ldy;
            for (int64_t w = from; w < to; ++w, at += step, g += ldy) {
                xs[pairs] = at;
                ys[pairs++] = g;
            }
        }
        m += run;
        skip(a, p, run);
    }
    return pairs;
}

inline void f32_conv_backward_weight_run(const ConvWeightArgs* a, int64_t begin, int64_t end, void* scratch) {
    const WeightCut cut = weight_cut(a);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, per_part = ceil_div(pixels, a->parts);
    const int64_t taps = a->T, row = cut.values * kBlock, floats = packed_filters(cut.width) * taps * cut.values;
    const float** xs = static_cast<const float**>(scratch);
    const float** ys = xs + kChunk;
    float* panel = reinterpret_cast<float*>(ys + kChunk);
    const int64_t image = max64(1, a->iD * a->iH * a->iW);
    const int64_t next_x = cut.chunk * (a->xD * a->xH * a->xW / image) * a->ldx, next_y = cut.chunk * a->ldy;
    for (int64_t task = begin; task < end; ++task) {
        const int64_t block0 = task % cut.slabs * cut.per_slab, rest = task / cut.slabs;
        const int64_t tap0 = rest % cut.tap_slabs * cut.taps_per_slab, g = rest / cut.tap_slabs % a->G;
        const int64_t part = rest / (cut.tap_slabs * a->G), stop = min64(pixels, (part + 1) * per_part);
        const int64_t block1 = min64(cut.blocks, block0 + cut.per_slab), tap1 = min64(taps, tap0 + cut.taps_per_slab);
        float* dw = a->dw + part * a->part_stride + g * floats;
        const auto width = [&](int64_t block) {
            const int64_t lanes = cut.width - block * kBlock;
            return lanes >= kBlock ? kBlock : block_width(lanes);
        };
        for (int64_t b = block0; b < block1; ++b)
            memset(dw + b * row * taps + tap0 * cut.values * width(b), 0,
                   sizeof(float) * static_cast<size_t>((tap1 - tap0) * cut.values * width(b)));
        for (int64_t first = part * per_part; first < stop; first += cut.chunk) {
            const int64_t count = min64(cut.chunk, stop - first);
            if (cut.packs)
                pack_pixels(a->gy + first * a->ldy + g * a->K + block0 * kBlock, a->ldy, count,
                            min64(a->K, block1 * kBlock) - block0 * kBlock, panel);
            for (int64_t t = tap0; t < tap1; t += cut.rows) {
                const int32_t* tap = a->taps + 3 * t;
                const float *x = a->x + g * a->C, *gy = a->gy + g * a->K;
                const int64_t here = min64(cut.rows, tap1 - t);
                if (cut.packs) gy = panel - first * kBlock;
                WeightPairs pairs = {xs, ys, pixel_pairs(a, tap, x, gy, cut.packs ? kBlock : a->ldy, first, count, xs, ys), 0, 0};
                if (a->swapped) pairs.a = ys, pairs.b = xs;
                if (t == tap0) {
                    pairs.ahead_a = a->swapped ? next_y : next_x;
                    pairs.ahead_b = a->swapped ? next_x : cut.packs ? 0 : next_y;
                }
                int64_t shift[8];
                for (int64_t r = 0; r < here; ++r) {
                    const int32_t* o = tap + 3 * r;
                    shift[r] = (((o[0] - tap[0]) * a->xH + o[1] - tap[1]) * a->xW + o[2] - tap[2]) * a->ldx;
                }
                for (int64_t b = block0; b < block1; ++b) {
                    const int64_t k0 = b * kBlock, lanes = min64(kBlock, cut.width - k0), w = width(b);
                    float* at = dw + b * row * taps + t * cut.values * w;
                    const int64_t at_b = cut.packs ? (b - block0) * count * kBlock : k0;
                    if (cut.rows > 1) {
                        const float* y = gy + first * a->ldy + k0;
                        if (w == kBlock) {
                            weight_taps<kWidth, 2>(a->C, xs, shift, here, y, a->ldy, count, lanes, at);
                        } else if (w == kWidth) {
                            weight_taps<kWidth, 1>(a->C, xs, shift, here, y, a->ldy, count, lanes, at);
                        } else {
                            weight_taps<kHalf, 1>(a->C, xs, shift, here, y, a->ldy, count, lanes, at);
                        }
                    } else if (w == kBlock) {
                        weight_block<kWidth, 2>(pairs, cut.values, at_b, lanes, at);
                    } else if (w == kWidth) {
                        weight_block<kWidth, 1>(pairs, cut.values, at_b, lanes, at);
                    } else {
                        weight_block<kHalf, 1>(pairs, cut.values, at_b, lanes, at);
                    }
                    pairs.ahead_a = 0;
                }
            }
        }
    }
}

// ---- sums --------------------------------------------------------------------------------------------------------

FC_INLINE int64_t f32_sum_partials_tiles(const PartialArgs* a) { return ceil_div(a->count, 4096); }
FC_INLINE size_t f32_sum_partials_scratch(const PartialArgs*) { return 0; }

inline void f32_sum_partials_run(const PartialArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t i = begin * 4096; i < min64(a->count, end * 4096); ++i) {
        float sum = a->part[i];
        for (int64_t p = 1; p < a->parts; ++p) sum += a->part[p * a->part_stride + i];
        a->out[i] = sum;
    }
}

}  // namespace
}  // namespace
