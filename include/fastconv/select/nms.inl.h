// Non-maximum suppression, exact: boxes by falling score (equal ones as they lie), within a class each that is left drops those
// behind it whose overlap (intersection over union, in float32 as torchvision computes it) is above the threshold. One tile: the
// classes' boxes lie side by side, a coordinate after the other, and a box is held against 16 at a time.
#include "fastconv/select/sort.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t nms_tiles(const NmsArgs*) { return 1; }
FC_INLINE size_t nms_scratch(const NmsArgs* a) { return static_cast<size_t>(a->count) * (4 * sizeof(Pair) + 7 * 4) + 64; }

struct Corners {
    const float *x1, *y1, *x2, *y2, *area;
};

// gone[j] |= the overlap of box i with box j is above the threshold, for j in [i + 1, end).
FC_INLINE void suppress(const Corners& c, int64_t i, int64_t end, float threshold, int32_t* gone) {
    typedef Vf<kWidth> V;
    const V x1 = splat<kWidth>(c.x1[i]), y1 = splat<kWidth>(c.y1[i]), x2 = splat<kWidth>(c.x2[i]),
            y2 = splat<kWidth>(c.y2[i]);
    const V area = splat<kWidth>(c.area[i]), zero = {};
    for (int64_t j = i + 1; j < end; j += kWidth) {  // behind the end lie other classes' boxes, or room for a vector
        const V left = load<kWidth>(c.x1 + j), top = load<kWidth>(c.y1 + j), right = load<kWidth>(c.x2 + j);
        const V bottom = load<kWidth>(c.y2 + j);
        const V w = (right < x2 ? right : x2) - (left > x1 ? left : x1),
                h = (bottom < y2 ? bottom : y2) - (top > y1 ? top : y1);
        const V inter = (w > zero ? w : zero) * (h > zero ? h : zero);
        const Vi<kWidth> over = inter / (area + load<kWidth>(c.area + j) - inter) > splat<kWidth>(threshold);
        if (end - j >= kWidth) {
            store<kWidth>(gone + j, load<kWidth>(gone + j) | over);
        } else {
            for (int64_t k = j; k < end; ++k) gone[k] |= over[k - j];
        }
    }
}

inline void nms_run(const NmsArgs* a, int64_t, int64_t, void* scratch) {
    const int64_t n = a->count;
    Pair *room = static_cast<Pair*>(scratch), *other = room + n, *grouped = other + n, *spare = grouped + n;
    float* f = reinterpret_cast<float*>(spare + n);
    int32_t *gone = reinterpret_cast<int32_t*>(f + 5 * n + kWidth), *keep = gone + n;
    for (int64_t i = 0; i < n; ++i) room[i] = Pair(Keys<float>::of(a->scores[i]) ^ 0xffffffffu, i);
    Pair* order = sorted(room, other, n);
    for (int64_t i = 0; i < n; ++i) {
        grouped[i] = Pair(a->classes ? Keys<int64_t>::of(a->classes[order[i].index()]) : 0, i);
        keep[i] = gone[i] = 0;
    }
    Pair* group = sorted(grouped, spare, n);
    if (group != grouped) {  // the coordinates lie behind both
        memcpy(grouped, group, static_cast<size_t>(n) * sizeof(Pair));
        group = grouped;
    }
    const Corners corners = {f, f + n, f + 2 * n, f + 3 * n, f + 4 * n};
    for (int64_t i = 0; i < n; ++i) {
        const float* box = a->boxes + 4 * order[group[i].index()].index();
        for (int d = 0; d < 4; ++d) f[d * n + i] = box[d];
        f[4 * n + i] = (box[2] - box[0]) * (box[3] - box[1]);
    }
    for (int64_t begin = 0, end = 0; begin < n; begin = end) {
        while (end < n && group[end].key() == group[begin].key()) ++end;
        for (int64_t i = begin; i < end; ++i) {
            if (gone[i]) continue;
            keep[group[i].index()] = 1;
            suppress(corners, i, end, a->threshold, gone);
        }
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i)
        if (keep[i]) a->keep[kept++] = order[i].index();
    *a->kept = kept;
}

}  // namespace
}  // namespace
