// Where values belong in ascending lines, by bisection.
#include "fastconv/gather/dims.inl.h"
#include "fastconv/select/args.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kSearchTile = 2048;

template <class T>
FC_NOINLINE void search_of(const SearchArgs* a, int64_t begin, int64_t end) {
    const int64_t count = elements(a->dims, a->n, 0, a->dims.rank);
    const int64_t first = begin * kSearchTile, stop = min64(count, end * kSearchTile);
    Walk walk(a->dims, a->n, 0, a->dims.rank);
    walk.add(a->xs);
    walk.add(a->vs);
    walk.add(a->ys);
    walk.add(a->ss);
    walk.go(first);
    for (int64_t i = first; i < stop; ++i, walk.next()) {
        const T* x = reinterpret_cast<const T*>(a->x) + walk.offset[0];
        const T v = reinterpret_cast<const T*>(a->v)[walk.offset[1]];
        const int64_t* sorter = a->sorter ? a->sorter + walk.offset[3] : nullptr;
        int64_t low = 0, high = a->length;
        while (low < high) {  // NaN, on either side, is in front of nothing
            const int64_t mid = low + (high - low) / 2, at = sorter ? sorter[mid * a->sl] : mid;
            const T m = x[(at < 0 || at >= a->length ? 0 : at) * a->xl];
            if (a->right ? !(m > v) : !(m >= v)) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        if (a->wide) {
            reinterpret_cast<int64_t*>(a->y)[walk.offset[2]] = low;
        } else {
            reinterpret_cast<int32_t*>(a->y)[walk.offset[2]] = static_cast<int32_t>(low);
        }
    }
}

FC_INLINE int64_t searchsorted_tiles(const SearchArgs* a) {
    return ceil_div(elements(a->dims, a->n, 0, a->dims.rank), kSearchTile);
}
FC_INLINE size_t searchsorted_scratch(const SearchArgs*) { return 0; }

inline void searchsorted_run(const SearchArgs* a, int64_t begin, int64_t end, void*) {
    if (a->dtype == FC_FLOAT32) return search_of<float>(a, begin, end);
    if (a->dtype == FC_INT64) return search_of<int64_t>(a, begin, end);
    if (a->dtype == FC_INT32) return search_of<int32_t>(a, begin, end);
    if (a->dtype == FC_INT8) return search_of<int8_t>(a, begin, end);
    search_of<uint8_t>(a, begin, end);
}

}  // namespace
}  // namespace
