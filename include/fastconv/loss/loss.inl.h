// Losses and their gradients; PyTorch's definitions. The sum over the batch is made in two steps in float64: each tile
// leaves its part, and one last tile adds the parts up in order, so the result does not depend on the threads.
// Cross entropy is bound by its exponentials, the squared error by memory.
#include "fastconv/loss/softmax.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// ---- cross entropy ------------------------------------------------------------------------------------------------
// With q = log_softmax(x), class t and smoothing s: loss = -(1 - s) weight[t] q[t] - s / C * sum over c of weight[c] q[c].
// A class outside [0, C) that is not ignore_index gives NaN (the caller has refused it; nothing is read).

FC_INLINE int64_t f32_cross_entropy_tiles(const CrossEntropyArgs* a) { return ceil_div(a->n * a->pixels, a->per_tile); }
FC_INLINE size_t f32_cross_entropy_scratch(const CrossEntropyArgs*) { return 0; }

// The sum of the class weights.
FC_INLINE float weight_sum(const CrossEntropyArgs* a) {
    if (!a->weight) return static_cast<float>(a->C);
    double sum = 0;
    for (int64_t c = 0; c < a->C; ++c) sum += static_cast<double>(a->weight[c]);
    return static_cast<float>(sum);
}

// sum over c of weight[c] * (x[c] - largest)
FC_INLINE float weighted_sum(const CrossEntropyArgs* a, const float* x, float largest) {
    RunSum sum;
    for_vectors(a->C, [&](int64_t c, int n) {
        const Vf<kWidth> shifted = load_or(x + c, n, largest) - largest;
        sum.add(a->weight ? shifted * load_n<kWidth>(a->weight + c, n) : shifted);
    });
    return sum.lanes();
}

// Shares t of the classes in place of one: loss = -(sum over c of weight[c] ((1 - s) t[c] + s / C) q[c]).

// {sum over c of weight[c] t[c], sum over c of weight[c] t[c] (x[c] - largest)}
struct SoftSums {
    float shares, shifted;
};
FC_INLINE SoftSums soft_sums(const CrossEntropyArgs* a, const float* t, const float* x, float largest) {
    RunSum shares, shifted;
    for_vectors(a->C, [&](int64_t c, int n) {
        Vf<kWidth> share = load_n<kWidth>(t + c, n);
        if (a->weight) share *= load_n<kWidth>(a->weight + c, n);
        shares.add(share);
        if (x) shifted.add(share * (load_or(x + c, n, largest) - largest));
    });
    return {shares.lanes(), shifted.lanes()};
}

FC_INLINE void soft_forward(const CrossEntropyArgs* a, int64_t begin, int64_t end) {
    const int64_t pixels = a->n * a->pixels;
    const float keep = static_cast<float>(1.0 - a->smoothing);
    const float s = static_cast<float>(a->smoothing / static_cast<double>(a->C));
    const float weights = s != 0.0f ? weight_sum(a) : 0.0f;
    for (int64_t tile = begin; tile < end; ++tile) {
        double losses = 0;
        const int64_t first = tile * a->per_tile, last = min64(pixels, first + a->per_tile);
        for (int64_t p = first; p < last; ++p) {
            const float* x = a->x + p * a->ldx;
            const float largest = row_max(x, a->C), sum = row_exp_sum(x, a->C, largest), log_sum = log_of(sum);
            const SoftSums of = soft_sums(a, a->soft + p * a->ldt, x, largest);
            float loss = keep * (of.shares * log_sum - of.shifted);
            if (s != 0.0f) loss += s * (weights * log_sum - weighted_sum(a, x, largest));
            a->kept[2 * p] = largest;
            a->kept[2 * p + 1] = sum;
            losses += static_cast<double>(loss);
            if (a->loss) a->loss[p] = loss;
        }
        a->part[2 * tile] = losses;
        a->part[2 * tile + 1] = static_cast<double>(last - first);
    }
}

inline void f32_cross_entropy_run(const CrossEntropyArgs* a, int64_t begin, int64_t end, void*) {
    if (a->soft) return soft_forward(a, begin, end);
    const int64_t pixels = a->n * a->pixels;
    const float s = static_cast<float>(a->smoothing), keep = static_cast<float>(1.0 - a->smoothing);
    const float weights = s != 0.0f ? weight_sum(a) : 0.0f;
    for (int64_t tile = begin; tile < end; ++tile) {
        double losses = 0, divisor = 0;
        for (int64_t p = tile * a->per_tile; p < min64(pixels, (tile + 1) * a->per_tile); ++p) {
            const int64_t t = a->target[p];
            float loss = 0;
            if (t != a->ignore_index) {
                const float* x = a->x + p * a->ldx;
                const bool inside = t >= 0 && t < a->C;
                const float largest = row_max(x, a->C), sum = row_exp_sum(x, a->C, largest), log_sum = log_of(sum);
                const float w = !inside ? __builtin_nanf("") : a->weight ? a->weight[t] : 1.0f;
                loss = inside ? keep * w * (log_sum - (x[t] - largest)) : w;
                if (s != 0.0f)
                    loss += s / static_cast<float>(a->C) * (weights * log_sum - weighted_sum(a, x, largest));
                a->kept[2 * p] = largest;
                a->kept[2 * p + 1] = sum;
                losses += static_cast<double>(loss);
                divisor += static_cast<double>(w);
            }
            if (a->loss) a->loss[p] = loss;
        }
        a->part[2 * tile] = losses;
        a->part[2 * tile + 1] = divisor;
    }
}

FC_INLINE int64_t f32_cross_entropy_backward_tiles(const CrossEntropyArgs* a) { return f32_cross_entropy_tiles(a); }
FC_INLINE size_t f32_cross_entropy_backward_scratch(const CrossEntropyArgs*) { return 0; }

// gx[c] = scale * (softmax[c] * sum over d of u[d] - u[c]) where u[c] = weight[c] ((1 - s) t[c] + s / C), and that of t:
// gx[c] = -scale * (1 - s) weight[c] q[c]
FC_INLINE void soft_backward(const CrossEntropyArgs* a, int64_t begin, int64_t end) {
    const int64_t last = min64(a->n * a->pixels, end * a->per_tile);
    const float s = static_cast<float>(a->smoothing / static_cast<double>(a->C));
    const float keep = static_cast<float>(1.0 - a->smoothing), weights = s != 0.0f ? weight_sum(a) : 0.0f;
    for (int64_t p = begin * a->per_tile; p < last; ++p) {
        const float *x = a->x + p * a->ldx, *t = a->soft + p * a->ldt;
        const float largest = a->kept[2 * p], sum = a->kept[2 * p + 1], log_sum = log_of(sum);
        const float scale = (a->gy ? a->gy[p * a->gy_stride] : 1.0f) * (a->norm ? *a->norm : 1.0f);
        const float shares = a->of_target ? 0.0f : keep * soft_sums(a, t, nullptr, largest).shares + s * weights;
        const float of_softmax = shares / sum;
        for_vectors(a->C, [&](int64_t c, int n) {
            const Vf<kWidth> shifted = load_n<kWidth>(x + c, n) - largest;
            const Vf<kWidth> w = a->weight ? load_n<kWidth>(a->weight + c, n) : splat<kWidth>(1.0f);
            Vf<kWidth> g;
            if (a->of_target)
                g = w * (keep * (log_sum - shifted));
            else
                g = vexp<kWidth>(shifted) * of_softmax - w * (keep * load_n<kWidth>(t + c, n) + s);
            store_n<kWidth>(a->gx + p * a->ldgx + c, g * scale, n);
        });
    }
}

// gx[c] = scale * (softmax[c] * ((1 - s) weight[t] + s / C * weights) - s / C * weight[c] - [c == t] (1 - s) weight[t])
inline void f32_cross_entropy_backward_run(const CrossEntropyArgs* a, int64_t begin, int64_t end, void*) {
    if (a->soft) return soft_backward(a, begin, end);
    const int64_t last = min64(a->n * a->pixels, end * a->per_tile);
    const float s = static_cast<float>(a->smoothing / static_cast<double>(a->C));
    const float keep = static_cast<float>(1.0 - a->smoothing), weights = s != 0.0f ? weight_sum(a) : 0.0f;
    for (int64_t p = begin * a->per_tile; p < last; ++p) {
        const int64_t t = a->target[p];
        float* gx = a->gx + p * a->ldgx;
        if (t == a->ignore_index) {  // 0 even where norm is infinite
            for_vectors(a->C, [&](int64_t c, int n) { store_n<kWidth>(gx + c, Vf<kWidth>{}, n); });
            continue;
        }
        const float* x = a->x + p * a->ldx;
        const bool inside = t >= 0 && t < a->C;
        const float largest = a->kept[2 * p], inverse = 1.0f / a->kept[2 * p + 1];
        const float scale = (a->gy ? a->gy[p * a->gy_stride] : 1.0f) * (a->norm ? *a->norm : 1.0f);
        const float w = keep * (!inside ? __builtin_nanf("") : a->weight ? a->weight[t] : 1.0f);
        const float of_softmax = (w + s * weights) * inverse;
        for_vectors(a->C, [&](int64_t c, int n) {
            Vf<kWidth> g = vexp<kWidth>(load_n<kWidth>(x + c, n) - largest) * of_softmax;
            if (s != 0.0f) g -= a->weight ? s * load_n<kWidth>(a->weight + c, n) : splat<kWidth>(s);
            const int64_t lane = t - c;
            if (lane >= 0 && lane < kWidth)
                g = load<kWidth>(lane_index) == splat_i<kWidth>(static_cast<int32_t>(lane)) ? g - w : g;
            store_n<kWidth>(gx + c, g * scale, n);
        });
    }
}

// ---- squared error ------------------------------------------------------------------------------------------------

FC_INLINE int64_t f32_squared_error_tiles(const SquaredErrorArgs* a) { return ceil_div(a->n * a->pixels, a->per_tile); }
FC_INLINE size_t f32_squared_error_scratch(const SquaredErrorArgs*) { return 0; }

inline void f32_squared_error_run(const SquaredErrorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t pixels = a->n * a->pixels;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * a->per_tile, last = min64(pixels, first + a->per_tile);
        double total = 0;
        for (int64_t p = first; p < last; ++p) {
            const float *x = a->x + p * a->ldx, *t = a->target + p * a->ldt;
            float* loss = a->loss ? a->loss + p * a->ldl : nullptr;
            Vf<kWidth> sum = {};
            int terms = 0;
            for_vectors(a->C, [&](int64_t c, int n) {
                const Vf<kWidth> d = load_n<kWidth>(x + c, n) - load_n<kWidth>(t + c, n);
                sum += d * d;
                if (loss) store_n<kWidth>(loss + c, d * d, n);
                if (++terms % 64 == 0) {
                    total += static_cast<double>(sum_lanes<kWidth>(sum));
                    sum = Vf<kWidth>{};
                }
            });
            total += static_cast<double>(sum_lanes<kWidth>(sum));
        }
        a->part[2 * tile] = total;
        a->part[2 * tile + 1] = static_cast<double>((last - first) * a->C);
    }
}

FC_INLINE int64_t f32_squared_error_backward_tiles(const SquaredErrorArgs* a) { return f32_squared_error_tiles(a); }
FC_INLINE size_t f32_squared_error_backward_scratch(const SquaredErrorArgs*) { return 0; }

inline void f32_squared_error_backward_run(const SquaredErrorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t last = min64(a->n * a->pixels, end * a->per_tile);
    const float one = 1.0f, factor = static_cast<float>(a->factor) * (a->norm ? *a->norm : 1.0f);
    for (int64_t p = begin * a->per_tile; p < last; ++p) {
        const float *x = a->x + p * a->ldx, *t = a->target + p * a->ldt, *gy = a->gy ? a->gy + p * a->ldgy : &one;
        for_vectors(a->C, [&](int64_t c, int n) {
            const Vf<kWidth> g = a->ldgy ? load_n<kWidth>(gy + c, n) : splat<kWidth>(*gy);
            const Vf<kWidth> d = load_n<kWidth>(x + c, n) - load_n<kWidth>(t + c, n);
            store_n<kWidth>(a->gx + p * a->ldgx + c, d * (g * factor), n);
        });
    }
}

// ---- the sum ------------------------------------------------------------------------------------------------------
// One tile whatever the batch: an empty one has a loss too (0, or NaN for a mean).

FC_INLINE int64_t f32_loss_sum_tiles(const LossSumArgs*) { return 1; }
FC_INLINE size_t f32_loss_sum_scratch(const LossSumArgs*) { return 0; }

inline void f32_loss_sum_run(const LossSumArgs* a, int64_t, int64_t, void*) {
    double loss = 0, divisor = 0;
    for (int64_t i = 0; i < ceil_div(a->n * a->pixels, a->per_tile); ++i) {
        loss += a->part[2 * i];
        divisor += a->part[2 * i + 1];
    }
    *a->loss = static_cast<float>(a->mean ? loss / divisor : loss);
    *a->norm = static_cast<float>(a->mean ? 1.0 / divisor : 1.0);
}

}  // namespace
}  // namespace
