// `i64_reduce`: sums, products, extremes of whole numbers and where they are, exact and wrapping round at 64 bits.
//
// Up to kWholeLanes results side by side where they lie closer than what is reduced, else one at a time, a run of kWholeRun of its
// elements after the other, copied together as int64 first. Bound by memory and that copy. Results are not cut: a single one is
// the work of one thread.
#include "fastconv/simd/integers.inl.h"
#include "fastconv/reduce/reduce.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kWholeLanes = 64;

struct WholeCut {
    int64_t inner, lanes, chunks, groups, elements, per;
};

FC_INLINE WholeCut whole_cut(const ReduceArgs* a) {
    WholeCut c;
    const FcAxis &kept = a->kept[a->kept_rank - 1], &reduced = a->reduced[a->reduced_rank - 1];
    c.inner = extent(kept, a->n);
    c.elements = product(a->reduced, a->reduced_rank, a->n);
    const bool beside = c.inner > 1 && (distance(kept.x) < distance(reduced.x) || extent(reduced, a->n) == 1);
    c.lanes = beside ? kWholeLanes : 1;
    c.chunks = ceil_div(c.inner, c.lanes);
    c.groups = c.inner ? product(a->kept, a->kept_rank, a->n) / c.inner * c.chunks : 0;
    c.per = max64(1, kReduceTile / (c.lanes * max64(1, c.elements)));
    return c;
}

FC_INLINE int64_t i64_reduce_tiles(const ReduceArgs* a) {
    const WholeCut c = whole_cut(a);
    return ceil_div(c.groups, c.per);
}
FC_INLINE size_t i64_reduce_scratch(const ReduceArgs*) { return 0; }

template <class T, bool larger>
FC_INLINE int64_t extreme_run_of(const void* data, int64_t offset, int64_t count) {
    const T* p = static_cast<const T*>(data) + offset;
    T y = *p;
    for (int64_t i = 0; i < count; ++i) y = larger ? (p[i] > y ? p[i] : y) : (p[i] < y ? p[i] : y);
    return y;
}

// The largest, or least, of a run of elements side by side, as they lie.
template <bool larger>
FC_NOINLINE int64_t extreme_run(const void* data, int64_t element, int64_t offset, int64_t count) {
    switch (element) {
        case kInt64: return extreme_run_of<int64_t, larger>(data, offset, count);
        case kInt32: return extreme_run_of<int32_t, larger>(data, offset, count);
        case kInt8: return extreme_run_of<int8_t, larger>(data, offset, count);
        default: return extreme_run_of<uint8_t, larger>(data, offset, count);
    }
}

// What one value makes of a result; `at` is where it is.
FC_INLINE void take_whole(int64_t reduction, int64_t v, int64_t place, int64_t& y, int64_t& at) {
    if (reduction == FC_SUM) {
        y = wrapped_add(y, v);
    } else if (reduction == FC_PROD) {
        y = wrapped_mul(y, v);
    } else if (reduction == FC_MAX) {
        y = v > y ? v : y;
    } else if (reduction == FC_MIN) {
        y = v < y ? v : y;
    } else {
        const bool larger = reduction == FC_ARGMAX;
        const bool takes = place == 0 || (larger ? v > y : v < y);
        y = takes ? v : y;
        at = takes ? place : at;
    }
}

// Takes `count` values: of as many results side by side, or all of one, of which the first is element `first`.
template <int Reduction>
FC_NOINLINE void take_integers(const int64_t* v, int64_t count, bool beside, int64_t first, int64_t* best, int64_t* at) {
    if (beside) {
        for (int64_t i = 0; i < count; ++i) take_whole(Reduction, v[i], first, best[i], at[i]);
    } else {
        int64_t y = *best, place = *at;
        for (int64_t i = 0; i < count; ++i) take_whole(Reduction, v[i], first + i, y, place);
        *best = y, *at = place;
    }
}

typedef void (*TakeIntegers)(const int64_t*, int64_t, bool, int64_t, int64_t*, int64_t*);
FC_INLINE TakeIntegers take_of(int64_t reduction) {
    switch (reduction) {
        case FC_SUM: return take_integers<FC_SUM>;
        case FC_PROD: return take_integers<FC_PROD>;
        case FC_MAX: return take_integers<FC_MAX>;
        case FC_MIN: return take_integers<FC_MIN>;
        case FC_ARGMAX: return take_integers<FC_ARGMAX>;
        default: return take_integers<FC_ARGMIN>;
    }
}

inline void i64_reduce_run(const ReduceArgs* a, int64_t begin, int64_t end, void*) {
    const WholeCut c = whole_cut(a);
    const FcAxis &kept = a->kept[a->kept_rank - 1], &inner = a->reduced[a->reduced_rank - 1];
    const int64_t stop = min64(c.groups, end * c.per);
    const TakeIntegers take = take_of(a->reduction);
    const int64_t none = a->reduction == FC_PROD ? 1 : a->reduction == FC_MAX ? INT64_MIN : a->reduction == FC_MIN ? INT64_MAX : 0;
    const bool runs = c.lanes == 1 && inner.x == 1 && (a->reduction == FC_MAX || a->reduction == FC_MIN);
    int64_t values[kWholeRun], best[kWholeLanes], at[kWholeLanes];
    for (int64_t g = begin * c.per; g < stop; ++g) {
        const int64_t c0 = g % c.chunks * c.lanes, lanes = min64(c.lanes, c.inner - c0);
        const Walk from(a->kept, a->kept_rank, a->n, g / c.chunks * c.inner + c0);
        for (int64_t i = 0; i < lanes; ++i) best[i] = none, at[i] = 0;
        Walk walk(a->reduced, a->reduced_rank, a->n, 0);
        for (int64_t row = 0; row < c.elements;) {
            const int64_t run = c.lanes > 1 ? 1 : runs ? walk.left() : min64(walk.left(), kWholeRun);
            const int64_t count = c.lanes > 1 ? lanes : runs ? 1 : run;
            if (runs)
                *values = (a->reduction == FC_MAX ? extreme_run<true> : extreme_run<false>)(a->x, a->dtype_x, from.x + walk.x, run);
            else
                load_integers(a->x, a->dtype_x, from.x + walk.x, c.lanes > 1 ? kept.x : inner.x, count, values);
            take(values, count, c.lanes > 1, row, best, at);
            walk.advance(run);
            row += run;
        }
        if (is_arg(a->reduction)) {
            if (a->y) store_integers(at, lanes, a->y, kInt64, from.y, kept.y);
            if (a->y2) store_integers(best, lanes, a->y2, a->dtype_z, from.y2, kept.y2);
        } else {
            store_integers(best, lanes, a->y, a->dtype_z, from.y, kept.y);
        }
    }
}

}  // namespace
}  // namespace
