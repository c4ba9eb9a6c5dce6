// Reductions over any axes of a strided operand (reduce/rows.inl.h has the loops over vectors).
//
//   one by one:    blocks of up to 4096 elements of one result, read where they lie, or copied together first
//   side by side:  up to 512 results, rows of them in runs of 256
//
// Blocks, and runs of rows, are added up as a binary tree (a stack of states, as a binary counter carries), so that the error
// grows with the logarithm of their number. The elements of a result are cut into ranges of per_part, whose states a second
// kernel merges in order: sums of few results have tiles for all threads. The ranges depend on the planned problem; those
// behind the elements of a smaller batch are empty. Bound by memory.
#ifndef FASTCONV_REDUCE_INL_H
#define FASTCONV_REDUCE_INL_H

#include "fastconv/reduce/rows.inl.h"
#include "fastconv/reduce/strided.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kBlock = 4096;     // elements of one result at a time
constexpr int64_t kRun = 256;        // rows of results at a time
constexpr int kGroup = 16;           // rows that are copied together at a time
constexpr int64_t kCopied = 256;     // results side by side where rows are copied
constexpr int64_t kReduceTile = 16384;
constexpr int64_t kMergeLanes = 256;

// The inner loops of one reduction, which the rest of this file calls.
struct Reduction {
    void (*block)(const float*, const float*, int64_t, float*, float*, float, int32_t);
    void (*rows8)(const float* const*, const float* const*, int64_t, float*, float*, double, int32_t);
    void (*row)(const float* const*, const float* const*, int64_t, float*, float*, double, int32_t);
    void (*merge)(float*, float*, double, const float*, const float*, double, int64_t);
    float first;
};

const Reduction reductions[] = {
#define FC_X(op) {block<op>, rows<op, 8>, rows<op, 1>, merge_lanes<op>, first_value(op)}
    FC_X(FC_SUM), FC_X(FC_DOT), FC_X(FC_PROD), FC_X(FC_MAX), FC_X(FC_MIN), FC_X(FC_ARGMAX), FC_X(FC_ARGMIN),
    FC_X(FC_LOGSUMEXP), FC_X(FC_MOMENTS)};
#undef FC_X

struct ReduceCut {
    int64_t outer, inner;   // results: outer * inner, of which `lanes` are taken side by side
    int64_t lanes, chunks, group;
    int64_t results, elements;
};

FC_INLINE int64_t padded(int64_t lanes) { return (lanes + kWidth - 1) / kWidth * kWidth; }

FC_INLINE ReduceCut reduce_cut(const ReduceArgs* a) {
    ReduceCut c;
    c.results = product(a->kept, a->kept_rank, a->n);
    c.elements = product(a->reduced, a->reduced_rank, a->n);
    const bool beside = a->order != FC_ONE_BY_ONE;
    c.inner = beside ? extent(a->kept[a->kept_rank - 1], a->n) : 1;
    c.outer = c.inner ? c.results / c.inner : 0;
    c.lanes = a->lanes;
    c.chunks = ceil_div(c.inner, c.lanes);
    const int64_t each = max64(1, a->parts > 1 ? a->per_part : c.elements) * a->spread * min64(c.lanes, max64(1, c.inner));
    c.group = max64(1, kReduceTile / each);
    return c;
}

FC_INLINE int stack_levels(int64_t pieces) {
    int levels = 4;
    for (; pieces > 0; pieces >>= 1) ++levels;
    return levels;
}

// States of pieces of a reduction, merged as a tree.
struct Stack {
    const Reduction& op;
    float* base;
    int64_t lanes, stride;
    int depth = 0;
    uint64_t pushed = 0;
    double counts[64];

    FC_INLINE Stack(const Reduction& op_, float* memory, int64_t lanes_)
        : op(op_), base(memory), lanes(lanes_), stride(padded(lanes_)) {}
    FC_INLINE float* s(int level) { return base + 2 * level * stride; }
    FC_INLINE float* t(int level) { return s(level) + stride; }
    FC_INLINE float* top_s() { return s(depth); }
    FC_INLINE float* top_t() { return t(depth); }
    FC_NOINLINE void clear_top() {
        for (int64_t c = 0; c < stride; c += kWidth) {
            store<kWidth>(top_s() + c, splat<kWidth>(op.first));
            store<kWidth>(top_t() + c, Vf<kWidth>{});
        }
    }
    FC_NOINLINE void join() {
        --depth;
        op.merge(s(depth - 1), t(depth - 1), counts[depth - 1], s(depth), t(depth), counts[depth], lanes);
        counts[depth - 1] += counts[depth];
    }
    FC_INLINE void push(double count) {
        counts[depth++] = count;
        for (uint64_t p = ++pushed; (p & 1) == 0; p >>= 1) join();
    }
    FC_INLINE double result() {  // in s(0), t(0)
        if (depth == 0) {
            clear_top();
            return 0;
        }
        while (depth > 1) join();
        return counts[0];
    }
};

// What a tile has for itself.
struct ReduceScratch {
    float *x, *z, *stack;
};
FC_INLINE int64_t copied_floats(const ReduceArgs* a) { return a->order == FC_ONE_BY_ONE ? kBlock : kGroup * kCopied; }
FC_INLINE ReduceScratch reduce_scratch(const ReduceArgs* a, void* memory) {
    float* base = static_cast<float*>(memory);
    return {base, base + copied_floats(a), base + 2 * copied_floats(a)};
}

FC_INLINE void before(const ReduceArgs* a, float* x, int64_t n) {
    if (a->before != FC_PLAIN) change(x, n, static_cast<int>(a->before), a->p);
}

// The first element of the result at x.
FC_INLINE float pivot(const ReduceArgs* a, const char* x) {
    float first;
    as_floats(x, a->dtype_x, 1, 1, &first);
    return first;
}

// Whether the elements of a result need no copy.
FC_INLINE bool lies_one_by_one(const ReduceArgs* a) {
    const FcAxis& inner = a->reduced[a->reduced_rank - 1];
    return a->dtype_x == FC_FLOAT32 && inner.x == 1 && a->before == FC_PLAIN &&
           (!a->z || (a->dtype_z == FC_FLOAT32 && inner.z == 1));
}

// The elements [from, to) of the result at x, z: its state in stack.s(0), stack.t(0); how many they are.
FC_NOINLINE double one_result(const ReduceArgs* a, const char* x, const char* z, int64_t from, int64_t to, ReduceScratch m,
                  Stack& stack) {
    const FcAxis& inner = a->reduced[a->reduced_rank - 1];
    const int64_t size_x = element_size(a->dtype_x), size_z = element_size(a->dtype_z);
    const bool lies = lies_one_by_one(a);
    float bound = a->reduction == FC_MOMENTS && to > from ? pivot(a, x) : stack.op.first;
    Walk walk(a->reduced, a->reduced_rank, a->n, from);
    for (int64_t at = from; at < to;) {
        const float *px = reinterpret_cast<const float*>(x + size_x * walk.x);
        const float *pz = z ? reinterpret_cast<const float*>(z + size_z * walk.z) : nullptr;
        int64_t n = min64(min64(walk.left(), kBlock), to - at);
        if (lies && (n >= 256 || n == to - at)) {
            walk.advance(n);
        } else {
            for (n = 0; n < kBlock && at + n < to;) {
                const int64_t k = min64(min64(walk.left(), kBlock - n), to - at - n);
                as_floats(x + size_x * walk.x, a->dtype_x, inner.x, k, m.x + n);
                if (z) as_floats(z + size_z * walk.z, a->dtype_z, inner.z, k, m.z + n);
                walk.advance(k);
                n += k;
            }
            before(a, m.x, n);
            px = m.x;
            if (z) pz = m.z;
        }
        stack.op.block(px, pz, n, stack.top_s(), stack.top_t(), bound, static_cast<int32_t>(at - from));
        if (is_arg(a->reduction)) {
            const float value = *stack.top_s();
            if (value != value || (a->reduction == FC_ARGMAX ? value > bound : value < bound)) bound = value;
        }
        stack.push(static_cast<double>(n));
        at += n;
    }
    return stack.result();
}

// Where the next `count` rows of an operand lie, from those at p: pointers to them, or to copies.
struct RowSource {
    const char* p;
    int64_t size, dtype, stride;
    bool lies, turned;
    float* copy;

    FC_INLINE void get(int j, int64_t offset, int64_t lanes, const float** row) const {
        const char* at = p + size * offset;
        row[j] = lies ? reinterpret_cast<const float*>(at) : copy + j * kCopied;
        if (!lies && !turned) as_floats(at, static_cast<int>(dtype), stride, lanes, copy + j * kCopied);
    }
};

// `pack` states behind one another, of which the first `rest` have an element more, as one.
FC_NOINLINE double fold(const ReduceArgs* a, const Reduction& op, float* s, float* t, int64_t lanes, int64_t pack, double k, int64_t rest) {
    if (is_arg(a->reduction)) {
        for (int64_t c = 0; c < lanes * pack; ++c) {
            int32_t at;
            __builtin_memcpy(&at, t + c, sizeof at);
            at = at * static_cast<int32_t>(pack) + static_cast<int32_t>(c / lanes);
            __builtin_memcpy(t + c, &at, sizeof at);
        }
    }
    double count = k + (rest > 0);
    for (int64_t i = 1; i < pack; ++i) {
        const double more = k + (i < rest);
        op.merge(s, t, count, s + i * lanes, t + i * lanes, more, lanes);
        count += more;
    }
    return count;
}

// `spread` neighbouring states of each result, k elements each, as one.
FC_NOINLINE double gather_spread(Stack& stack, int64_t lanes, int64_t spread, double k) {
    for (int64_t i = 0; i < spread; ++i) {
        const int level = i ? 2 : 1;
        float *s = stack.s(level), *t = stack.t(level);
        for (int64_t c = 0; c < lanes; ++c) s[c] = stack.s(0)[c * spread + i], t[c] = stack.t(0)[c * spread + i];
        if (i) stack.op.merge(stack.s(1), stack.t(1), k * static_cast<double>(i), s, t, k, lanes);
    }
    for (int64_t c = 0; c < lanes; ++c) stack.s(0)[c] = stack.s(1)[c], stack.t(0)[c] = stack.t(1)[c];
    return k * static_cast<double>(spread);
}

// The rows [from, to) of `lanes` results side by side, the first at x, z: as above.
FC_NOINLINE double many_results(const ReduceArgs* a, const char* x, const char* z, int64_t lanes, int64_t from, int64_t to,
                    ReduceScratch m, Stack& stack) {
    const FcAxis &kept = a->kept[a->kept_rank - 1], &inner = a->reduced[a->reduced_rank - 1];
    const int64_t width = lanes * a->pack * a->spread, rest = (to - from) % a->pack, end = (to - from) / a->pack;
    const int64_t stride_x = a->spread > 1 ? 1 : kept.x, stride_z = a->spread > 1 ? 1 : kept.z;
    const bool lies_x = a->dtype_x == FC_FLOAT32 && stride_x == 1 && a->before == FC_PLAIN, squares = a->reduction == FC_DOT && !z;
    const bool lies_z = a->dtype_z == FC_FLOAT32 && stride_z == 1;
    const RowSource sx = {x, element_size(a->dtype_x), a->dtype_x, stride_x, lies_x, a->order == FC_TURNED, m.x};
    const RowSource sz = {z, element_size(a->dtype_z), a->dtype_z, stride_z, lies_z, false, m.z};
    const float *px[kGroup], *other[kGroup], **pz = squares ? px : other;
    if (a->reduction == FC_MOMENTS && to > from) {
        as_floats(x, a->dtype_x, kept.x, lanes, m.z + width);
        for (int64_t c = 0; c < width; ++c) m.z[c] = m.z[width + (a->spread > 1 ? c / a->spread : c % lanes)];
        for (const float*& p : other) p = m.z;
    }
    Walk walk(a->reduced, a->reduced_rank, a->n, from);
    for (int64_t row = 0; row < end;) {
        const int64_t begin = row, stop = min64(end, row + kRun);
        stack.clear_top();
        while (row < stop) {
            const int count = static_cast<int>(min64(kGroup, stop - row));
            for (int j = 0; j < count;) {
                const int n = a->pack > 1 ? 1 : static_cast<int>(min64(walk.left(), count - j));
                if (sx.turned)
                    turned_floats(reinterpret_cast<const float*>(x) + walk.x, kept.x, lanes, n, m.x + j * kCopied, kCopied);
                for (int i = 0; i < n; ++i) {
                    sx.get(j + i, walk.x + i * inner.x, width, px);
                    if (z) sz.get(j + i, walk.z + i * inner.z, width, pz);
                }
                j += n;
                walk.advance(a->pack > 1 ? a->pack : n);
            }
            if (a->before != FC_PLAIN)
                for (int j = 0; j < count; ++j) before(a, m.x + j * kCopied, width);
            int j = 0;
            for (; j + 8 <= count; j += 8)
                stack.op.rows8(px + j, pz + j, width, stack.top_s(), stack.top_t(), static_cast<double>(row - begin + j),
                            static_cast<int32_t>(row + j));
            for (; j < count; ++j)
                stack.op.row(px + j, pz + j, width, stack.top_s(), stack.top_t(), static_cast<double>(row - begin + j),
                            static_cast<int32_t>(row + j));
            row += count;
        }
        stack.push(static_cast<double>(row - begin));
    }
    const double k = stack.result();
    if (a->spread > 1) return gather_spread(stack, lanes, a->spread, k);
    if (a->pack == 1) return k;
    if (rest) {  // the last rows of results: in the first lanes
        sx.get(0, walk.x, rest * lanes, px);
        if (z) sz.get(0, walk.z, rest * lanes, pz);
        before(a, m.x, sx.lies ? 0 : rest * lanes);
        float *s = stack.s(1), *t = stack.t(1);  // its own, as whole vectors are written
        for (int64_t c = 0; c < rest * lanes; ++c) s[c] = stack.s(0)[c], t[c] = stack.t(0)[c];
        stack.op.row(px, pz, rest * lanes, s, t, k, static_cast<int32_t>(end));
        for (int64_t c = 0; c < rest * lanes; ++c) stack.s(0)[c] = s[c], stack.t(0)[c] = t[c];
    }
    return fold(a, stack.op, stack.s(0), stack.t(0), lanes, a->pack, k, rest);
}

// s, t of `lanes` results of k elements become what is written: s to y, t to y2.
FC_NOINLINE void finish(const ReduceArgs* a, float* s, float* t, int64_t lanes, double k) {
    typedef Vf<kWidth> V;
    const V count = splat<kWidth>(static_cast<float>(a->count != 0.0 ? a->count : k));
    const V free = splat<kWidth>(static_cast<float>(k > a->correction ? k - a->correction : 0.0));
    for (int64_t c = 0; c < lanes; c += kWidth) {
        V v = load<kWidth>(s + c), w = {};
        if (a->reduction == FC_LOGSUMEXP) v = v + vlog<kWidth>(load<kWidth>(t + c));
        if (a->reduction == FC_MOMENTS) {
            const V m2 = load<kWidth>(t + c), mean = k == 0 ? splat<kWidth>(__builtin_nanf("")) : v;
            w = a->finish == FC_VALUE ? m2 : mean;
            v = a->finish == FC_VALUE ? mean
                : a->finish == FC_VAR ? m2 / free
                : a->finish == FC_STD ? vsqrt<kWidth>(m2 / free)
                                      : 1.0f / vsqrt<kWidth>(m2 / count + splat<kWidth>(static_cast<float>(a->eps)));
            store<kWidth>(t + c, w);
        } else if (a->reduction == FC_SUM || a->reduction == FC_DOT) {
            if (a->finish == FC_MEAN) v = v / count;
            if (a->finish == FC_SQRT) v = vsqrt<kWidth>(v);
            if (a->finish == FC_RSTD) v = 1.0f / vsqrt<kWidth>(v / count + splat<kWidth>(static_cast<float>(a->eps)));
            if (a->finish == FC_ROOT)
                for (int i = 0; i < kWidth; ++i) v[i] = power(v[i], 1.0 / a->p);
        }
        store<kWidth>(s + c, v);
    }
}

// The results [first, first + lanes) from their states; base is what the rows are counted from.
FC_NOINLINE void write(const ReduceArgs* a, int64_t first, int64_t lanes, float* s, float* t, double k, int64_t base) {
    if (a->reduction == FC_MOMENTS && k > 0) {
        Walk walk(a->kept, a->kept_rank, a->n, first);
        float pivots[64];
        for (int64_t c = 0; c < lanes;) {
            const int64_t n = min64(min64(walk.left(), lanes - c), 64);
            as_floats(static_cast<const char*>(a->x) + element_size(a->dtype_x) * walk.x, a->dtype_x,
                      a->kept[a->kept_rank - 1].x, n, pivots);
            for (int64_t i = 0; i < n; ++i) s[c + i] += pivots[i];
            walk.advance(n);
            c += n;
        }
    }
    finish(a, s, t, lanes, k);
    Walk walk(a->kept, a->kept_rank, a->n, first);
    const FcAxis& inner = a->kept[a->kept_rank - 1];
    for (int64_t c = 0; c < lanes;) {
        const int64_t n = min64(walk.left(), lanes - c);
        if (is_arg(a->reduction)) {
            for (int64_t i = 0; i < n; ++i) {
                int32_t at;
                __builtin_memcpy(&at, t + c + i, sizeof at);
                if (a->y) static_cast<int64_t*>(a->y)[walk.y + i * inner.y] = base + at;
            }
            if (a->y2) from_floats(s + c, n, static_cast<float*>(a->y2) + walk.y2, inner.y2);
        } else if (a->finish == FC_COUNT) {
            for (int64_t i = 0; i < n; ++i)
                static_cast<int64_t*>(a->y)[walk.y + i * inner.y] = static_cast<int64_t>(s[c + i]);
        } else if (a->finish == FC_TRUTH) {
            for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(a->y)[walk.y + i * inner.y] = s[c + i] > 0.0f;
        } else {
            if (a->y) from_floats(s + c, n, static_cast<float*>(a->y) + walk.y, inner.y);
            if (fields(a->reduction) == 2 && a->y2) from_floats(t + c, n, static_cast<float*>(a->y2) + walk.y2, inner.y2);
        }
        walk.advance(n);
        c += n;
    }
}

// The results [first, last), each a block that needs no copy, written together.
FC_NOINLINE void whole_results(const ReduceArgs* a, int64_t first, int64_t last, ReduceScratch m, const Reduction& op) {
    const int64_t n = extent(a->reduced[0], a->n);
    const float *x = static_cast<const float*>(a->x), *z = static_cast<const float*>(a->z);
    Walk walk(a->kept, a->kept_rank, a->n, first);
    while (first < last) {
        const int64_t count = min64(kMergeLanes, last - first);
        for (int64_t c = 0; c < count; ++c) {
            const float bound = a->reduction == FC_MOMENTS ? x[walk.x] : op.first;
            op.block(x + walk.x, z ? z + walk.z : nullptr, n, m.x + c, m.z + c, bound, 0);
            walk.advance(1);
        }
        write(a, first, count, m.x, m.z, static_cast<double>(n), 0);
        first += count;
    }
}

inline void f32_reduce_run(const ReduceArgs* a, int64_t begin, int64_t end, void* memory) {
    const ReduceCut cut = reduce_cut(a);
    const ReduceScratch m = reduce_scratch(a, memory);
    const Reduction& op = reductions[a->reduction];
    const bool beside = a->order != FC_ONE_BY_ONE;
    const bool plain = !beside && a->parts == 1 && a->reduced_rank == 1 && cut.elements > 0 && cut.elements <= kBlock &&
                       lies_one_by_one(a);
    const char *x = static_cast<const char*>(a->x), *z = static_cast<const char*>(a->z);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t part = tile % a->parts, chunk = tile / a->parts % cut.chunks;
        const int64_t first = tile / a->parts / cut.chunks * cut.group, last = min64(cut.outer, first + cut.group);
        const int64_t from = min64(cut.elements, part * a->per_part);
        const int64_t to = a->parts > 1 ? min64(cut.elements, from + a->per_part) : cut.elements;
        const int64_t c0 = chunk * cut.lanes, lanes = beside ? min64(cut.lanes, cut.inner - c0) : 1;
        if (plain) {
            whole_results(a, first, last, m, op);
            continue;
        }
        for (int64_t o = first; o < last; ++o) {
            const int64_t result = o * cut.inner + c0;
            const Walk at(a->kept, a->kept_rank, a->n, result);
            const char* px = x + element_size(a->dtype_x) * at.x;
            const char* pz = z ? z + element_size(a->dtype_z) * at.z : nullptr;
            Stack stack(op, m.stack, lanes * a->pack * a->spread);
            const double k = beside ? many_results(a, px, pz, lanes, from, to, m, stack)
                                    : one_result(a, px, pz, from, to, m, stack);
            float *s = stack.s(0), *t = stack.t(0);
            if (a->parts == 1) {
                write(a, result, lanes, s, t, k, 0);
                continue;
            }
            float* out = a->part + part * fields(a->reduction) * cut.results + result;
            for (int64_t c = 0; c < lanes; ++c) out[c] = s[c];
            if (fields(a->reduction) == 2)
                for (int64_t c = 0; c < lanes; ++c) out[cut.results + c] = t[c];
        }
    }
}

// One result whose index, or count, may be no float.
FC_NOINLINE void exact(const ReduceArgs* a, const ReduceCut& cut, const float* from, int64_t result) {
    const int64_t step = fields(a->reduction) * cut.results;
    const Walk at(a->kept, a->kept_rank, a->n, result);
    if (is_arg(a->reduction)) {
        float value = from[0];
        int64_t index = 0;
        for (int64_t part = 0; part < a->parts && part * a->per_part < cut.elements; ++part) {
            const float v = from[part * step];
            const bool beats = a->reduction == FC_ARGMAX ? v > value : v < value;
            if (part && !beats && !(v != v && value == value)) continue;
            int32_t row;
            __builtin_memcpy(&row, from + part * step + cut.results, sizeof row);
            value = v, index = part * a->per_part + row;
        }
        if (a->y) static_cast<int64_t*>(a->y)[at.y] = index;
        if (a->y2) static_cast<float*>(a->y2)[at.y2] = value;
    } else {
        int64_t sum = 0;
        for (int64_t part = 0; part < a->parts; ++part) sum += static_cast<int64_t>(from[part * step]);
        static_cast<int64_t*>(a->y)[at.y] = sum;
    }
}

// The results from the states of their ranges.
inline void f32_reduce_merge_run(const ReduceArgs* a, int64_t begin, int64_t end, void* memory) {
    const ReduceCut cut = reduce_cut(a);
    auto count = [&](int64_t part) { return max64(0, min64(a->per_part, cut.elements - part * a->per_part)); };
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * kMergeLanes, lanes = min64(kMergeLanes, cut.results - first);
        Stack stack(reductions[a->reduction], static_cast<float*>(memory), lanes);
        const float* from = a->part + first;
        if (is_arg(a->reduction) || a->finish == FC_COUNT) {  // int64 results
            for (int64_t c = 0; c < lanes; ++c) exact(a, cut, from + c, first + c);
            continue;
        }
        for (int64_t part = 0; part < a->parts; ++part, from += fields(a->reduction) * cut.results) {
            float *s = stack.top_s(), *t = stack.top_t();
            for (int64_t c = 0; c < lanes; ++c) s[c] = from[c];
            if (fields(a->reduction) == 2)
                for (int64_t c = 0; c < lanes; ++c) t[c] = from[cut.results + c];
            stack.push(static_cast<double>(count(part) * a->spread));
        }
        const double k = stack.result();
        write(a, first, lanes, stack.s(0), stack.t(0), k, 0);
    }
}

FC_INLINE int64_t f32_reduce_tiles(const ReduceArgs* a) {
    const ReduceCut c = reduce_cut(a);
    return c.results ? ceil_div(c.outer, c.group) * c.chunks * a->parts : 0;
}
FC_INLINE size_t f32_reduce_scratch(const ReduceArgs* a) {
    const bool beside = a->order != FC_ONE_BY_ONE;
    const int64_t elements = reduce_cut(a).elements, most = a->parts > 1 ? a->per_part : elements;
    const int64_t pieces = beside ? most / kRun : most / 256;  // the least block behind which another comes
    return sizeof(float) * static_cast<size_t>(2 * copied_floats(a) +
                                               2 * stack_levels(pieces) * padded(beside ? a->lanes * a->pack * a->spread : 1));
}
FC_INLINE int64_t f32_reduce_merge_tiles(const ReduceArgs* a) { return ceil_div(reduce_cut(a).results, kMergeLanes); }
FC_INLINE size_t f32_reduce_merge_scratch(const ReduceArgs* a) {
    return sizeof(float) * static_cast<size_t>(2 * stack_levels(a->parts) * kMergeLanes);
}

}  // namespace
}  // namespace
#endif
