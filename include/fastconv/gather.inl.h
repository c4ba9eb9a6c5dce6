// Elements found by integer indices, and the adjoint, which adds (sets, multiplies, takes the larger) in a fixed order: that of
// the source's dimensions. Bound by memory: rows are copied by vectors, single elements one by one.
//
// A gather is cut by its output. A scatter is cut so that no two tiles write one element: by dimensions along which sources go
// to different targets, by pieces of their rows, and, where that gives too few, by ranges of the targets of the first index: each
// tile then reads all indices and takes those of its range. So a target sees its sources in order, whatever the cut.
#include "fastconv/dims.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kGatherTile = 16384;  // elements
constexpr int64_t kOutside = INT64_MIN;

// Where an index points, in elements from the table's first; kOutside where it is none of the table's.
FC_INLINE int64_t raw_index(const IndexOperand& o, int64_t at) {
    return o.wide ? static_cast<const int64_t*>(o.data)[at] : static_cast<const int32_t*>(o.data)[at];
}
FC_INLINE int64_t inside(const IndexOperand& o, int64_t value) {
    const int64_t u = o.wrap && value < 0 ? value + o.extent : value;
    if (static_cast<uint64_t>(u) < static_cast<uint64_t>(o.extent)) return u;
    if (o.bad) {
        __atomic_store_n(&o.bad[1], value, __ATOMIC_RELAXED);
        __atomic_store_n(&o.bad[0], 1, __ATOMIC_RELAXED);
    }
    return kOutside;
}
FC_INLINE int64_t located(const GatherArgs* a, const int64_t* at, int64_t i) {
    int64_t sum = 0;
    bool all = true;
    for (int64_t k = 0; k < a->count; ++k) {
        const IndexOperand& o = a->index[k];
        const int64_t u = inside(o, raw_index(o, at[k] + i * o.strides[a->dims.rank - 1]));
        if (u == kOutside) {
            all = false;
        } else {
            sum += u * o.step;
        }
    }
    return all ? sum : kOutside;
}

// ---- gather -------------------------------------------------------------------------------------------------------

template <class T>
FC_NOINLINE void copy_elements(T* y, int64_t ys, const T* x, int64_t xs, int64_t n) {
    if (ys == 1 && xs == 1) {
        if constexpr (sizeof(T) == 4) {  // short rows: a call would take longer
            const float* from = reinterpret_cast<const float*>(x);
            float* to = reinterpret_cast<float*>(y);
            if (n <= 64) {
                for (int64_t i = 0; i < n; i += kWidth) {
                    const int w = static_cast<int>(min64(kWidth, n - i));
                    store_n<kWidth>(to + i, load_n<kWidth>(from + i, w), w);
                }
                return;
            }
        }
        memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    } else {
        for (int64_t i = 0; i < n; ++i) y[i * ys] = x[i * xs];
    }
}

template <class T>
FC_NOINLINE void gather_elements(const GatherArgs* a, const int64_t* at, const T* x, T* y, int64_t begin, int64_t end) {
    const int64_t last = a->dims.rank - 1, xs = a->xs[last], ys = a->ys[last];
    const IndexOperand& o = a->index[0];
    if (a->count == 1) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t u = inside(o, raw_index(o, at[0] + i * o.strides[last]));
            y[i * ys] = u == kOutside ? T{} : x[i * xs + u * o.step];
        }
        return;
    }
    for (int64_t i = begin; i < end; ++i) {
        const int64_t u = located(a, at, i);
        y[i * ys] = u == kOutside ? T{} : x[i * xs + u];
    }
}

template <class T>
FC_NOINLINE void gather_tiles_of(const GatherArgs* a, int64_t begin, int64_t end) {
    const int64_t last = a->dims.rank - 1, inner = extent(a->dims, a->n, last);
    const int64_t rows = elements(a->dims, a->n, 0, last), pieces = ceil_div(inner, kGatherTile);
    const int64_t group = pieces > 1 ? 1 : max64(1, kGatherTile / inner);
    const T* x = reinterpret_cast<const T*>(a->x);
    T* y = reinterpret_cast<T*>(a->y);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile / pieces * group, stop = min64(rows, first + group);
        const int64_t low = tile % pieces * kGatherTile, high = min64(inner, low + kGatherTile);
        Walk walk(a->dims, a->n, 0, last);
        walk.add(a->xs);
        walk.add(a->ys);
        for (int64_t k = 0; k < a->count; ++k) walk.add(a->index[k].strides);
        walk.go(first);
        for (int64_t row = first; row < stop; ++row, walk.next()) {
            const T* from = x + walk.offset[0];
            T* to = y + walk.offset[1];
            if (!a->rows) {
                gather_elements(a, walk.offset + 2, from, to, low, high);
                continue;
            }
            const int64_t u = located(a, walk.offset + 2, 0), xs = a->xs[last], ys = a->ys[last];
            if (u != kOutside) {
                copy_elements(to + low * ys, ys, from + low * xs + u, xs, high - low);
            } else {
                for (int64_t i = low; i < high; ++i) to[i * ys] = T{};
            }
        }
    }
}

FC_INLINE int64_t gather_tiles(const GatherArgs* a) {
    const int64_t last = a->dims.rank - 1, inner = extent(a->dims, a->n, last), rows = elements(a->dims, a->n, 0, last);
    if (inner * rows == 0) return 0;
    return inner > kGatherTile ? rows * ceil_div(inner, kGatherTile) : ceil_div(rows, max64(1, kGatherTile / inner));
}
FC_INLINE size_t gather_scratch(const GatherArgs*) { return 0; }

inline void gather_run(const GatherArgs* a, int64_t begin, int64_t end, void*) {
    if (a->dtype == FC_INT64) return gather_tiles_of<int64_t>(a, begin, end);
    if (a->dtype == FC_FLOAT32 || a->dtype == FC_INT32) return gather_tiles_of<int32_t>(a, begin, end);
    gather_tiles_of<int8_t>(a, begin, end);
}

// ---- scatter ------------------------------------------------------------------------------------------------------

template <class T>
struct Wrapping {  // integers overflow as PyTorch's do
    typedef T type;
};
template <>
struct Wrapping<int64_t> {
    typedef uint64_t type;
};
template <>
struct Wrapping<int32_t> {
    typedef uint32_t type;
};

template <int Op, class T>
FC_INLINE T combined(T y, T v) {
    typedef typename Wrapping<T>::type U;
    if constexpr (Op == FC_ADD) return static_cast<T>(static_cast<U>(y) + static_cast<U>(v));
    if constexpr (Op == FC_MUL) return static_cast<T>(static_cast<U>(y) * static_cast<U>(v));
    if constexpr (Op == FC_MAX) return v > y || is_nan(v) ? v : y;  // NaN in y stays
    if constexpr (Op == FC_MIN) return v < y || is_nan(v) ? v : y;
    return v;
}
template <int Op, int W>
FC_INLINE Vf<W> combined(Vf<W> y, Vf<W> v) {
    if constexpr (Op == FC_ADD) return y + v;
    if constexpr (Op == FC_MUL) return y * v;
    if constexpr (Op == FC_MAX) return (v > y) | (v != v) ? v : y;
    return (v < y) | (v != v) ? v : y;
}
template <int Op, class T>
FC_INLINE void combine_row(T* y, int64_t ys, const T* x, int64_t xs, int64_t n) {
    int64_t i = 0;
    if constexpr (sizeof(T) == 4 && static_cast<T>(0.5) != 0) {
        if (ys == 1 && xs == 1)
            for (; i + kWidth <= n; i += kWidth)
                store<kWidth>(y + i, combined<Op, kWidth>(load<kWidth>(y + i), load<kWidth>(x + i)));
    }
    for (; i < n; ++i) y[i * ys] = combined<Op>(y[i * ys], x[i * xs]);
}
template <class T>
FC_NOINLINE void combine_elements(int64_t op, T* y, int64_t ys, const T* x, int64_t xs, int64_t n) {
    switch (op) {
        case FC_ADD:
            return combine_row<FC_ADD>(y, ys, x, xs, n);
        case FC_MUL:
            return combine_row<FC_MUL>(y, ys, x, xs, n);
        case FC_MAX:
            return combine_row<FC_MAX>(y, ys, x, xs, n);
        case FC_MIN:
            return combine_row<FC_MIN>(y, ys, x, xs, n);
        default:
            copy_elements(y, ys, x, xs, n);
    }
}
template <class T>
FC_INLINE T combine(int64_t op, T y, T v) {
    switch (op) {
        case FC_ADD:
            return combined<FC_ADD>(y, v);
        case FC_MUL:
            return combined<FC_MUL>(y, v);
        case FC_MAX:
            return combined<FC_MAX>(y, v);
        case FC_MIN:
            return combined<FC_MIN>(y, v);
        default:
            return v;
    }
}

// The targets of a source element at these offsets of the indices, of the range [low, high) of the first index.
FC_INLINE int64_t targeted(const GatherArgs* a, const int64_t* at, int64_t i, int64_t low, int64_t high) {
    const IndexOperand& first = a->index[0];
    const int64_t value = raw_index(first, at[0] + i * first.strides[a->dims.rank - 1]);
    if (a->skips && value == a->skip) return kOutside;
    const int64_t u = inside(first, value);
    if (u < low || u >= high) return kOutside;
    int64_t sum = u * first.step;
    for (int64_t k = 1; k < a->count; ++k) {
        const IndexOperand& o = a->index[k];
        const int64_t v = inside(o, raw_index(o, at[k] + i * o.strides[a->dims.rank - 1]));
        if (v == kOutside) return kOutside;
        sum += v * o.step;
    }
    return sum;
}

struct ScatterCut {
    int64_t units, group, collide, inner, pieces;  // of free positions, so many a tile; colliding rows; pieces of a row
    FC_INLINE explicit ScatterCut(const GatherArgs* a) {
        const int64_t last = a->dims.rank - 1;
        units = elements(a->dims, a->n, 0, a->free);
        collide = elements(a->dims, a->n, a->free, last);
        inner = extent(a->dims, a->n, last);
        pieces = a->inner_free ? max64(1, ceil_div(inner, a->piece)) : 1;
        group = pieces > 1 || a->ranges > 1 ? 1 : max64(1, kGatherTile / max64(1, collide * inner));
    }
};

FC_INLINE int64_t scatter_tiles(const GatherArgs* a) {
    const ScatterCut cut(a);
    return cut.collide * cut.inner == 0 ? 0 : ceil_div(cut.units, cut.group) * cut.pieces * a->ranges;
}
FC_INLINE size_t scatter_scratch(const GatherArgs*) { return 0; }

template <class T>
FC_NOINLINE void scatter_tiles_of(const GatherArgs* a, int64_t begin, int64_t end) {
    const ScatterCut cut(a);
    const int64_t last = a->dims.rank - 1, xs = a->xs[last], ys = a->ys[last], extent0 = a->index[0].extent;
    const T* x = reinterpret_cast<const T*>(a->x);
    T* y = reinterpret_cast<T*>(a->y);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t range = tile % a->ranges, piece = tile / a->ranges % cut.pieces;
        const int64_t first = tile / (a->ranges * cut.pieces) * cut.group, stop = min64(cut.units, first + cut.group);
        const int64_t low = extent0 * range / a->ranges, high = extent0 * (range + 1) / a->ranges;
        const int64_t left = a->inner_free ? piece * a->piece : 0;
        const int64_t right = a->inner_free ? min64(cut.inner, left + a->piece) : cut.inner;
        Walk unit(a->dims, a->n, 0, a->free);
        unit.add(a->xs);
        unit.add(a->ys);
        for (int64_t k = 0; k < a->count; ++k) unit.add(a->index[k].strides);
        unit.go(first);
        for (int64_t u = first; u < stop; ++u, unit.next()) {
            Walk walk(a->dims, a->n, a->free, last);
            walk.add(a->xs, unit.offset[0]);
            walk.add(a->ys, unit.offset[1]);
            for (int64_t k = 0; k < a->count; ++k) walk.add(a->index[k].strides, unit.offset[2 + k]);
            walk.go(0);
            for (int64_t row = 0; row < cut.collide; ++row, walk.next()) {
                const T* from = x + walk.offset[0];
                T* to = y + walk.offset[1];
                if (a->rows) {
                    const int64_t at = targeted(a, walk.offset + 2, 0, low, high);
                    if (at != kOutside) combine_elements(a->op, to + at + left * ys, ys, from + left * xs, xs, right - left);
                    continue;
                }
                for (int64_t i = left; i < right; ++i) {
                    const int64_t at = targeted(a, walk.offset + 2, i, low, high);
                    if (at != kOutside) to[at + i * ys] = combine(a->op, to[at + i * ys], from[i * xs]);
                }
            }
        }
    }
}

inline void scatter_run(const GatherArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t dtype = a->op == FC_SET && a->dtype == FC_FLOAT32 ? static_cast<int64_t>(FC_INT32) : a->dtype;  // bits are moved
    if (dtype == FC_FLOAT32) return scatter_tiles_of<float>(a, begin, end);
    if (dtype == FC_INT64) return scatter_tiles_of<int64_t>(a, begin, end);
    if (dtype == FC_INT32) return scatter_tiles_of<int32_t>(a, begin, end);
    if (dtype == FC_INT8) return scatter_tiles_of<int8_t>(a, begin, end);
    scatter_tiles_of<uint8_t>(a, begin, end);
}

}  // namespace
}  // namespace
