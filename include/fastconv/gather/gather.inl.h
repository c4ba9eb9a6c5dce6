// Elements found by integer indices, and the adjoint, which adds (sets, multiplies, takes the larger) in a fixed order: that of
// the source's dimensions. Bound by memory: rows are copied by vectors, single elements one by one.
//
// Indices are looked at in blocks: where all of a block point into the table, what follows does not look again.
//
// A gather is cut by its output. A scatter is cut so that no two tiles write one element: by dimensions along which sources go
// to different targets, by pieces of their rows, and, where that gives too few and whole rows are moved, by ranges of the targets of
// the first index: each tile then reads all indices and takes those of its range. So a target sees its sources in order, whatever
// the cut.
#include "fastconv/gather/dims.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kGatherTile = 16384;  // elements
constexpr int64_t kIndices = 256;  // indices that are looked at together
constexpr int64_t kOutside = INT64_MIN;

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

// What n indices, `stride` apart, are: all of [0, extent); all inside, but from the end as well; not all inside. Where they are inside,
// nothing else looks at them.
enum Indices { kPlain, kWrapped, kSome };
template <class I>
FC_NOINLINE Indices seen(const I* at, int64_t stride, int64_t n, const IndexOperand& o) {
    constexpr int L = kWidth * 4 / static_cast<int>(sizeof(I));
    typedef typename Wrapping<I>::type U;
    typedef U V __attribute__((vector_size(kWidth * 4)));
    const int64_t most = sizeof(I) == 4 ? INT32_MAX : INT64_MAX;
    const U wrap = static_cast<U>(min64(o.extent, most)), last = static_cast<U>(min64(o.extent - 1, most));
    U any = 0, outside = 0;  // the sign of either
    int64_t i = 0;
    if (stride == 1) {
        V some{}, wrong{};
        for (; i + L <= n; i += L) {
            V v;
            memcpy(&v, at + i, sizeof v);
            some |= v;
            wrong |= (v + wrap) | (last - v);
        }
        for (int l = 0; l < L; ++l) any |= some[l], outside |= wrong[l];
    }
    for (; i < n; ++i) {
        const U v = static_cast<U>(at[i * stride]);
        any |= v;
        outside |= (v + wrap) | (last - v);
    }
    constexpr int sign = 8 * sizeof(I) - 1;
    return outside >> sign ? kSome : !(any >> sign) ? kPlain : o.wrap ? kWrapped : kSome;
}
FC_INLINE Indices seen(const IndexOperand& o, int64_t at, int64_t stride, int64_t n) {
    return o.wide ? seen(static_cast<const int64_t*>(o.data) + at, stride, n, o)
                  : seen(static_cast<const int32_t*>(o.data) + at, stride, n, o);
}
// An index that points into the table, from its beginning on; wrap: the extent where it may be negative, else 0.
FC_INLINE int64_t unwrapped(int64_t v, int64_t wrap) { return v + (v >> 63 & wrap); }

// ---- gather -------------------------------------------------------------------------------------------------------

template <class T>
FC_INLINE void copy_elements(T* y, int64_t ys, const T* x, int64_t xs, int64_t n) {
    if (ys == 1 && xs == 1) {
        if constexpr (sizeof(T) >= 4) {  // short rows: a call would take longer
            const float* from = reinterpret_cast<const float*>(x);
            float* to = reinterpret_cast<float*>(y);
            const int64_t floats = n * static_cast<int64_t>(sizeof(T) / 4);
            if (floats <= 64) {
                int64_t i = 0;
                for (; i + kWidth <= floats; i += kWidth) store<kWidth>(to + i, load<kWidth>(from + i));
                if (i < floats) {
                    const int w = static_cast<int>(floats - i);
                    Ops<kWidth>::store_n(to + i, Ops<kWidth>::load_n(from + i, w), w);
                }
                return;
            }
        }
        memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    } else {
        for (int64_t i = 0; i < n; ++i) y[i * ys] = x[i * xs];
    }
}

// How a row of single elements, or of rows, is found by one index.
struct Found {
    int64_t ys, xs, is, step, wrap;  // from one to the next, of y, x and the index; elements of the table per index
};
template <class T, class I>
FC_NOINLINE void gather_inside(T* y, const T* x, const I* at, const Found f, int64_t n) {
    if (f.wrap) {
        for (int64_t i = 0; i < n; ++i) y[i * f.ys] = x[i * f.xs + unwrapped(at[i * f.is], f.wrap) * f.step];
    } else if (f.is != 1 || f.ys != 1) {
        for (int64_t i = 0; i < n; ++i) y[i * f.ys] = x[i * f.xs + at[i * f.is] * f.step];
    } else if (f.xs || f.step != 1) {
#pragma GCC unroll 4
        for (int64_t i = 0; i < n; ++i) y[i] = x[i * f.xs + at[i] * f.step];
    } else {
#pragma GCC unroll 4
        for (int64_t i = 0; i < n; ++i) y[i] = x[at[i]];
    }
}
// Rows of single elements, whose indices follow one another.
template <class T, class I>
FC_NOINLINE void gather_inside(T* y, const T* x, const I* at, const Found f, const Found rows, int64_t inner, int64_t n) {
    for (int64_t i = 0; i < n; ++i) gather_inside(y + i * rows.ys, x + i * rows.xs, at + i * rows.is, f, inner);
}
template <class T, class I>
FC_NOINLINE void gather_rows(T* y, const T* x, const I* at, const Found f, int64_t n, int64_t ys, int64_t xs, int64_t width) {
    for (int64_t i = 0; i < n; ++i)
        copy_elements(y + i * f.ys, ys, x + i * f.xs + unwrapped(at[i * f.is], f.wrap) * f.step, xs, width);
}

template <class T>
FC_NOINLINE void gather_elements(const GatherArgs* a, const int64_t* at, const T* x, T* y, int64_t begin, int64_t end) {
    const int64_t last = a->dims.rank - 1, xs = a->xs[last], ys = a->ys[last];
    const IndexOperand& o = a->index[0];
    Found f = {ys, xs, o.strides[last], o.step, 0};
    for (int64_t i = begin; i < end;) {
        const int64_t stop = min64(end, i + kIndices), first = at[0] + i * f.is;
        const Indices are = a->count == 1 ? seen(o, first, f.is, stop - i) : kSome;
        if (are != kSome) {
            f.wrap = are == kPlain ? 0 : o.extent;
            if (o.wide) {
                gather_inside(y + i * ys, x + i * xs, static_cast<const int64_t*>(o.data) + first, f, stop - i);
            } else {
                gather_inside(y + i * ys, x + i * xs, static_cast<const int32_t*>(o.data) + first, f, stop - i);
            }
            i = stop;
            continue;
        }
        for (; i < stop; ++i) {
            const int64_t u = located(a, at, i);
            y[i * ys] = u == kOutside ? T{} : x[i * xs + u];
        }
    }
}

template <class T>
FC_NOINLINE void gather_tiles_of(const GatherArgs* a, int64_t begin, int64_t end) {
    const int64_t last = a->dims.rank - 1, inner = extent(a->dims, a->n, last);
    const int64_t rows = elements(a->dims, a->n, 0, last), pieces = ceil_div(inner, kGatherTile);
    const int64_t group = pieces > 1 ? 1 : rows_of(kGatherTile, inner);
    const int64_t xs = a->xs[last], ys = a->ys[last], before = last ? last - 1 : 0;
    const T* x = reinterpret_cast<const T*>(a->x);
    T* y = reinterpret_cast<T*>(a->y);
    const IndexOperand& o = a->index[0];
    const Found f = {a->ys[before], a->xs[before], o.strides[before], o.step, o.wrap ? o.extent : 0};
    Found each = {ys, xs, o.strides[last], o.step, 0};
    const bool follow = a->count == 1 && inner * each.is == f.is;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile / pieces * group, stop = min64(rows, first + group);
        const int64_t low = tile % pieces * kGatherTile, high = min64(inner, low + kGatherTile);
        Walk walk(a->dims, a->n, 0, last);
        walk.add(a->xs);
        walk.add(a->ys);
        for (int64_t k = 0; k < a->count; ++k) walk.add(a->index[k].strides);
        walk.go(first);
        for (int64_t row = first, some; row < stop; row += some, walk.skip(some)) {
            const T* from = x + walk.offset[0] + low * xs;
            T* to = y + walk.offset[1] + low * ys;
            some = 1;
            if (!a->rows) {
                const int64_t many = follow ? min64(min64(walk.left(), stop - row), kIndices / inner) : 1;
                const Indices are = many > 1 ? seen(o, walk.offset[2], each.is, many * inner) : kSome;
                if (are != kSome) {
                    some = many;
                    each.wrap = are == kPlain ? 0 : o.extent;
                    if (o.wide) {
                        gather_inside(to, from, static_cast<const int64_t*>(o.data) + walk.offset[2], each, f, inner, many);
                    } else {
                        gather_inside(to, from, static_cast<const int32_t*>(o.data) + walk.offset[2], each, f, inner, many);
                    }
                    continue;
                }
                gather_elements(a, walk.offset + 2, x + walk.offset[0], y + walk.offset[1], low, high);
                continue;
            }
            const int64_t many = min64(min64(walk.left(), stop - row), kIndices);
            if (a->count == 1 && many > 1 && seen(o, walk.offset[2], f.is, many) != kSome) {
                some = many;
                if (o.wide) {
                    gather_rows(to, from, static_cast<const int64_t*>(o.data) + walk.offset[2], f, many, ys, xs, high - low);
                } else {
                    gather_rows(to, from, static_cast<const int32_t*>(o.data) + walk.offset[2], f, many, ys, xs, high - low);
                }
                continue;
            }
            const int64_t u = located(a, walk.offset + 2, 0);
            if (u != kOutside) {
                copy_elements(to, ys, from + u, xs, high - low);
            } else {
                for (int64_t i = 0; i < high - low; ++i) to[i * ys] = T{};
            }
        }
    }
}

FC_INLINE int64_t gather_tiles(const GatherArgs* a) {
    const int64_t last = a->dims.rank - 1, inner = extent(a->dims, a->n, last), rows = elements(a->dims, a->n, 0, last);
    if (inner * rows == 0) return 0;
    return inner > kGatherTile ? rows * ceil_div(inner, kGatherTile) : ceil_div(rows, rows_of(kGatherTile, inner));
}
FC_INLINE size_t gather_scratch(const GatherArgs*) { return 0; }

inline void gather_run(const GatherArgs* a, int64_t begin, int64_t end, void*) {
    if (a->dtype == FC_INT64) return gather_tiles_of<int64_t>(a, begin, end);
    if (a->dtype == FC_FLOAT32 || a->dtype == FC_INT32) return gather_tiles_of<int32_t>(a, begin, end);
    gather_tiles_of<int8_t>(a, begin, end);
}

// ---- scatter ------------------------------------------------------------------------------------------------------

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
    if constexpr (Op == FC_MAX) return ((v > y) | (v != v)) ? v : y;
    return ((v < y) | (v != v)) ? v : y;
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
// Single elements: y[at[i]] op= x[i * xs], in order.
template <int Op, class T>
FC_INLINE void combine_each(T* y, const int64_t* at, const T* x, int64_t xs, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[at[i]] = combined<Op>(y[at[i]], x[i * xs]);
}
template <class T>
FC_NOINLINE void combine_at(int64_t op, T* y, const int64_t* at, const T* x, int64_t xs, int64_t n) {
    switch (op) {
        case FC_ADD:
            return combine_each<FC_ADD>(y, at, x, xs, n);
        case FC_MUL:
            return combine_each<FC_MUL>(y, at, x, xs, n);
        case FC_MAX:
            return combine_each<FC_MAX>(y, at, x, xs, n);
        case FC_MIN:
            return combine_each<FC_MIN>(y, at, x, xs, n);
        default:
            return combine_each<FC_SET>(y, at, x, xs, n);
    }
}
// Where n source elements go, `ys` apart but for their indices, which point into the table: in `at`, or the indices themselves.
template <class I>
FC_NOINLINE const int64_t* targets(const I* index, const Found f, int64_t n, int64_t* at) {
    if (sizeof(I) == 8 && f.is == 1 && f.ys == 0 && f.step == 1 && f.wrap == 0) return reinterpret_cast<const int64_t*>(index);
    for (int64_t i = 0; i < n; ++i) at[i] = i * f.ys + unwrapped(index[i * f.is], f.wrap) * f.step;
    return at;
}

// The target of a source element at these offsets of the indices, of the range [low, high) of the first index.
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
    const int64_t last = a->dims.rank - 1, xs = a->xs[last], ys = a->ys[last];
    const IndexOperand& o = a->index[0];
    const bool plain = a->count == 1 && !a->skips && a->ranges == 1;
    Found f = {ys, xs, a->count ? o.strides[last] : 0, o.step, 0};
    const T* x = reinterpret_cast<const T*>(a->x);
    T* y = reinterpret_cast<T*>(a->y);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t range = tile % a->ranges, piece = tile / a->ranges % cut.pieces;
        const int64_t first = tile / (a->ranges * cut.pieces) * cut.group, stop = min64(cut.units, first + cut.group);
        const int64_t low = o.extent * range / a->ranges, high = o.extent * (range + 1) / a->ranges;
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
                for (int64_t i = left; i < right;) {
                    const int64_t most = min64(kIndices, right - i), first = walk.offset[2] + i * f.is;
                    int64_t at[kIndices];
                    const Indices are = plain ? seen(o, first, f.is, most) : kSome;
                    if (are != kSome) {
                        f.wrap = are == kPlain ? 0 : o.extent;
                        const int64_t* found = o.wide ? targets(static_cast<const int64_t*>(o.data) + first, f, most, at)
                                                      : targets(static_cast<const int32_t*>(o.data) + first, f, most, at);
                        combine_at(a->op, to + i * ys, found, from + i * xs, xs, most);
                        i += most;
                        continue;
                    }
                    for (const int64_t stop = i + most; i < stop; ++i) {
                        at[0] = targeted(a, walk.offset + 2, i, low, high);
                        if (at[0] != kOutside) combine_at(a->op, to + i * ys, at, from + i * xs, xs, 1);
                    }
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
