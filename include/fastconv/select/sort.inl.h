// Sorting lines. A value becomes an unsigned key that orders as it does (NaN last, both zeros equal), complemented for a falling
// order; with its index behind it no two are equal, so that every algorithm is stable. Short lines are sorted by insertion, long
// ones by the key's bytes, the least significant first (a byte that all share is left out). Of a few of many only those values
// become keys that may be among them, and go to a list in order or, where these are more, to a heap; one at a place is found by the
// bytes from the other end, each of which leaves the entries that share it.
#ifndef FASTCONV_SORT_INL_H
#define FASTCONV_SORT_INL_H

#include "fastconv/select/args.h"
#include "fastconv/gather/dims.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kInsertion = 40;  // longest line that is sorted by insertion
constexpr int64_t kFewest = 16;     // so many are kept in order
constexpr int64_t kFew = 20;        // lines this many times as long as what is asked for are not sorted
constexpr int kLook = 32;           // values looked at together
constexpr int64_t kSortTile = 4096;  // elements

// Keys of 32 bits share a word with their index.
struct Packed {
    uint64_t word;
    FC_INLINE Packed() {}
    FC_INLINE Packed(uint64_t key, int64_t index) : word(key << 32 | static_cast<uint64_t>(index)) {}
    FC_INLINE bool operator<(const Packed& b) const { return word < b.word; }
    FC_INLINE uint64_t key() const { return word >> 32; }
    FC_INLINE int64_t index() const { return static_cast<int64_t>(word & 0xffffffffu); }
    static constexpr int kBytes = 4;
};
struct Pair {
    uint64_t value;
    int64_t at;
    FC_INLINE Pair() {}
    FC_INLINE Pair(uint64_t key, int64_t index) : value(key), at(index) {}
    FC_INLINE bool operator<(const Pair& b) const { return value < b.value || (value == b.value && at < b.at); }
    FC_INLINE uint64_t key() const { return value; }
    FC_INLINE int64_t index() const { return at; }
    static constexpr int kBytes = 8;
};

constexpr uint32_t kNanKey = 0xffffffffu;

template <class T>
struct Keys {  // small integers
    typedef Packed Entry;
    static FC_INLINE uint64_t of(T v) { return static_cast<uint32_t>(static_cast<int32_t>(v)) ^ 0x80000000u; }
    static constexpr uint64_t kMask = 0xffffffffu;
};
template <>
struct Keys<float> {
    typedef Packed Entry;
    static FC_INLINE uint64_t of(float v) {  // by its bits: denormals would count as zeros
        uint32_t bits;
        memcpy(&bits, &v, 4);
        const uint32_t size = bits & 0x7fffffffu;
        const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
        return size > 0x7f800000u ? kNanKey : size == 0 ? 0x80000000u : key;
    }
    static constexpr uint64_t kMask = 0xffffffffu;
};
template <>
struct Keys<int64_t> {
    typedef Pair Entry;
    static FC_INLINE uint64_t of(int64_t v) { return static_cast<uint64_t>(v) ^ (static_cast<uint64_t>(1) << 63); }
    static constexpr uint64_t kMask = ~static_cast<uint64_t>(0);
};

template <class E>
FC_INLINE void insertion_sort(E* e, int64_t n) {
    for (int64_t i = 1; i < n; ++i) {
        const E v = e[i];
        int64_t j = i;
        for (; j > 0 && v < e[j - 1]; --j) e[j] = e[j - 1];
        e[j] = v;
    }
}

// Entries whose indices ascend, by their keys; where they then lie: in e, or in other, which has as much room.
template <class E>
FC_NOINLINE E* sorted(E* e, E* other, int64_t n) {
    if (n <= kInsertion) {
        insertion_sort(e, n);
        return e;
    }
    int64_t counts[E::kBytes][256] = {};
    for (int64_t i = 0; i < n; ++i) {
        uint64_t key = e[i].key();
        for (int b = 0; b < E::kBytes; ++b, key >>= 8) ++counts[b][key & 255];
    }
    for (int b = 0; b < E::kBytes; ++b) {
        int64_t* count = counts[b];
        if (count[e[0].key() >> (8 * b) & 255] == n) continue;
        int64_t sum = 0;
        for (int i = 0; i < 256; ++i) {
            const int64_t c = count[i];
            count[i] = sum;
            sum += c;
        }
        for (int64_t i = 0; i < n; ++i) other[count[e[i].key() >> (8 * b) & 255]++] = e[i];
        E* t = e;
        e = other;
        other = t;
    }
    return e;
}

// The entry at place k, from 0, among entries whose indices ascend; e and other are overwritten.
template <class E>
FC_NOINLINE E placed(E* e, E* other, int64_t n, int64_t k) {
    for (int b = E::kBytes - 1; b >= 0 && n > kInsertion; --b) {
        int64_t count[256] = {};
        for (int64_t i = 0; i < n; ++i) ++count[e[i].key() >> (8 * b) & 255];
        uint64_t byte = 0;
        while (k >= count[byte]) k -= count[byte++];
        if (count[byte] == n) continue;
        int64_t some = 0;
        for (int64_t i = 0; i < n; ++i) {
            other[some] = e[i];
            some += (e[i].key() >> (8 * b) & 255) == byte;
        }
        E* t = e;
        e = other;
        other = t;
        n = some;
    }
    if (n <= kInsertion) insertion_sort(e, n);
    return e[k];
}

template <class E>
FC_INLINE void sift_down(E* heap, int64_t i, int64_t n, E v) {  // the largest first
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child] < heap[child + 1]) ++child;
        if (!(v < heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = v;
}

// Whether one of kLook values may come in front of `worst` in the order: those of which it is certain that they do not.
template <class T>
struct May {
    static FC_INLINE bool be_less(const T* x, T worst, bool falling) {
        T any = 0;
        if (falling) {
            for (int i = 0; i < kLook; ++i) any |= static_cast<T>(x[i] > worst);
        } else {
            for (int i = 0; i < kLook; ++i) any |= static_cast<T>(x[i] < worst);
        }
        return any != 0;
    }
};
template <>
struct May<float> {
    static FC_INLINE int32_t ordered(int32_t bits) { return bits ^ (bits >> 31 & 0x7fffffff); }
    static FC_INLINE bool be_less(const float* x, float worst, bool falling) {  // by bits, as keys are
        int32_t v[kLook], last, any = 0;
        memcpy(v, x, sizeof v);
        memcpy(&last, &worst, 4);
        last = ordered(last);
        if (falling) {
            for (int i = 0; i < kLook; ++i) any |= (ordered(v[i]) > last) | ((v[i] & 0x7fffffff) > 0x7f800000);
        } else {
            for (int i = 0; i < kLook; ++i) any |= ordered(v[i]) < last;
        }
        return any != 0;
    }
};

template <class T>
struct Line {
    typedef typename Keys<T>::Entry E;
    const T* x;
    int64_t stride, length;
    uint64_t flip;  // the complement of keys, for a falling order

    FC_INLINE E entry(int64_t i) const { return E(Keys<T>::of(x[i * stride]) ^ flip, i); }
    FC_INLINE E* all(E* e, E* other) const {
        for (int64_t i = 0; i < length; ++i) e[i] = entry(i);
        return sorted(e, other, length);
    }
    // Where the entry at place k lies, or the lower median's (of the numbers), or the first NaN.
    FC_INLINE int64_t at(int64_t what, int64_t k, E* e, E* other) const {
        int64_t numbers = 0, first_nan = -1;
        for (int64_t i = 0; i < length; ++i) {
            const bool nan = is_nan(x[i * stride]);
            e[i] = entry(i);
            numbers += !nan;
            if (nan && first_nan < 0) first_nan = i;
        }
        if (what != FC_KTH && (numbers == 0 || (what == FC_MEDIAN && numbers < length))) return first_nan;
        return placed(e, other, length, what == FC_KTH ? k : (numbers - 1) / 2).index();
    }
    // The least `count` in order.
    FC_INLINE E* least(E* e, E* other, int64_t count) const {
        if (count > kFewest && count * kFew > length) return all(e, other);
        if (count == 0) return e;
        const bool few = count <= kFewest;
        for (int64_t i = 0; i < count; ++i) e[i] = entry(i);
        if (few) {
            insertion_sort(e, count);
        } else {
            for (int64_t i = count / 2 - 1; i >= 0; --i) sift_down(e, i, count, E(e[i]));
        }
        const int64_t worst = few ? count - 1 : 0;
        for (int64_t i = count; i < length;) {
            if (stride == 1 && i + kLook <= length && !May<T>::be_less(x + i, x[e[worst].index()], flip != 0)) {
                i += kLook;
                continue;
            }
            for (const int64_t end = min64(length, i + kLook); i < end; ++i) {
                const E v = entry(i);
                if (!(v < e[worst])) continue;
                if (few) {
                    int64_t j = worst;
                    for (; j > 0 && v < e[j - 1]; --j) e[j] = e[j - 1];
                    e[j] = v;
                } else {
                    sift_down(e, 0, count, v);
                }
            }
        }
        for (int64_t end = few ? 0 : count - 1; end > 0; --end) {  // the largest behind
            const E v = e[end];
            e[end] = e[0];
            sift_down(e, 0, end, v);
        }
        return e;
    }
};

// Of the sorted line's entries the first longest run's last; a NaN is equal to nothing.
template <class T>
FC_INLINE int64_t commonest(const SortArgs* a, const T* x, const typename Keys<T>::Entry* e) {
    int64_t best = 0, most = 0, run = 0;
    for (int64_t i = 0; i < a->length; ++i) {
        run = i && e[i].key() == e[i - 1].key() && !is_nan(x[e[i].index() * a->xl]) ? run + 1 : 1;
        if (run > most) {
            most = run;
            best = i;
        }
    }
    return e[best].index();
}

template <class T>
FC_NOINLINE void sort_lines_of(const SortArgs* a, int64_t begin, int64_t end, void* scratch) {
    typedef typename Keys<T>::Entry E;
    E *e = static_cast<E*>(scratch), *other = e + a->length;
    const int64_t lines = elements(a->dims, a->n, 0, a->dims.rank), group = max64(1, kSortTile / a->length);
    const int64_t first = begin * group, stop = min64(lines, end * group);
    const T* x = reinterpret_cast<const T*>(a->x);
    T* values = reinterpret_cast<T*>(a->values);
    Walk walk(a->dims, a->n, 0, a->dims.rank);
    walk.add(a->xs);
    walk.add(a->vs);
    walk.add(a->ns);
    walk.go(first);
    for (int64_t i = first; i < stop; ++i, walk.next()) {
        const Line<T> line = {x + walk.offset[0], a->xl, a->length, a->descending ? Keys<T>::kMask : 0};
        if (a->what > FC_TOPK) {
            const int64_t at = a->what == FC_MODE ? commonest(a, line.x, line.all(e, other)) : line.at(a->what, a->k, e, other);
            if (values) values[walk.offset[1]] = line.x[at * a->xl];
            if (a->indices) a->indices[walk.offset[2]] = at;
            continue;
        }
        const E* found = a->what == FC_TOPK ? line.least(e, other, a->count) : line.all(e, other);
        if (values) {
            T* to = values + walk.offset[1];
            for (int64_t j = 0; j < a->count; ++j) to[j * a->vl] = line.x[found[j].index() * a->xl];
        }
        if (a->indices) {
            int64_t* to = a->indices + walk.offset[2];
            for (int64_t j = 0; j < a->count; ++j) to[j * a->il] = found[j].index();
        }
    }
}

FC_INLINE int64_t sort_lines_tiles(const SortArgs* a) {
    if (a->length == 0) return 0;
    return ceil_div(elements(a->dims, a->n, 0, a->dims.rank), max64(1, kSortTile / a->length));
}
FC_INLINE size_t sort_lines_scratch(const SortArgs* a) {
    return static_cast<size_t>(2 * a->length) * (a->dtype == FC_INT64 ? sizeof(Pair) : sizeof(Packed));
}

inline void sort_lines_run(const SortArgs* a, int64_t begin, int64_t end, void* scratch) {
    if (a->dtype == FC_FLOAT32) return sort_lines_of<float>(a, begin, end, scratch);
    if (a->dtype == FC_INT64) return sort_lines_of<int64_t>(a, begin, end, scratch);
    if (a->dtype == FC_INT32) return sort_lines_of<int32_t>(a, begin, end, scratch);
    if (a->dtype == FC_INT8) return sort_lines_of<int8_t>(a, begin, end, scratch);
    sort_lines_of<uint8_t>(a, begin, end, scratch);
}

}  // namespace
}  // namespace
#endif
