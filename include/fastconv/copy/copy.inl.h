// Copies between views of up to eight dimensions, as they are, converted, or added up.
//
//   dimensions   by falling strides of y; neighbours that both sides go through evenly are one
//   plane        the last one, r, and another, c: what an inner loop (copy/ways.inl.h) goes through
//     runs       x and y have neighbours along r          slices, concatenations, flips of other dimensions
//     fills      y has, x repeats one value               expanded dimensions, constants
//     turned     y has along r, x along c                 transposes, channels-last to channels-first, interleaving
//     strided    any other                                slices with steps, reversed rows
//     listed     small planes, many at a time             channel shuffles, pixel shuffles of small images
//   units        planes, large ones in pieces; tiles are shares of them, which depend on the problem alone
//
// Bound by memory.
#ifndef FASTCONV_COPY_INL_H
#define FASTCONV_COPY_INL_H

#include "fastconv/copy/ways.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// Loops over dimensions: a handful of turns, which the compiler would write out.
#define FC_ROLLED _Pragma("GCC unroll 1")

constexpr int64_t kCopyBytes = 256 << 10;  // of y, per tile: 5 us in the caches, and what is copied in less wakes nobody
constexpr int64_t kPieceBytes = 64 << 10;  // and of a plane at a time
constexpr int kDims = 8;

struct CopyDim {
    int64_t extent, sx, sy;
};

enum CopyWay { kRuns, kFills, kTurned, kStrided, kListed };

struct CopyPlan {
    const char* x;
    char* y;
    int64_t size;               // bytes of an element of x
    int dims;
    CopyDim dim[kDims + 1];     // without r and c once these are chosen
    CopyDim r, c;
    int inner;                  // listed: dimensions of a plane, which r and c lead through; elements
    CopyDim small[kDims];
    int64_t listed;
    int64_t r_piece, c_piece, r_pieces, c_pieces, units;
    int64_t r_lead, c_lead;     // elements that the first piece lacks
    CopyWay way;
    bool past;
};

FC_INLINE int64_t magnitude(int64_t v) { return v < 0 ? -v : v; }
FC_INLINE int64_t dtype_bytes(int64_t dtype) { return dtype == FC_INT64 ? 8 : dtype == FC_FLOAT32 || dtype == FC_INT32 ? 4 : 1; }

FC_INLINE int64_t copy_extent(const CopyArgs* a, int64_t i) { return i == 0 && a->batched ? a->n : a->extent[i]; }

FC_NOINLINE int64_t copy_count(const CopyArgs* a) {
    int64_t count = 1;
    FC_ROLLED
    for (int64_t i = 0; i < a->dims; ++i) count *= copy_extent(a, i);
    return count;
}

// The dimensions: those of one element left out, y going forward, sorted, merged.
FC_NOINLINE void copy_dims(const CopyArgs* a, CopyPlan* p) {
    p->x = static_cast<const char*>(a->x), p->y = static_cast<char*>(a->y);
    if (a->slot && a->out)
        p->y = static_cast<char*>(a->slot->data);
    else if (a->slot)
        p->x = static_cast<const char*>(a->slot->data);
    p->dims = 0, p->r_lead = p->c_lead = 0;
    FC_ROLLED
    for (int64_t i = 0; i < a->dims; ++i) {
        CopyDim d{copy_extent(a, i), a->slot && !a->out ? p->size * a->slot->stride[i] : a->sx[i],
                  a->slot && a->out ? p->size * a->slot->stride[i] : a->sy[i]};
        if (d.extent == 1) continue;
        if (d.sy < 0) {
            p->x += (d.extent - 1) * d.sx, p->y += (d.extent - 1) * d.sy;
            d.sx = -d.sx, d.sy = -d.sy;
        }
        int at = p->dims++;
        for (; at > 0 && (p->dim[at - 1].sy < d.sy ||
                          (p->dim[at - 1].sy == d.sy && magnitude(p->dim[at - 1].sx) < magnitude(d.sx)));
             --at)
            p->dim[at] = p->dim[at - 1];
        p->dim[at] = d;
    }
    int kept = 0;
    FC_ROLLED
    for (int i = 0; i < p->dims; ++i) {
        CopyDim& d = p->dim[i];
        if (kept && p->dim[kept - 1].sy == d.extent * d.sy && p->dim[kept - 1].sx == d.extent * d.sx) {
            d.extent *= p->dim[kept - 1].extent;
            p->dim[kept - 1] = d;
        } else {
            p->dim[kept++] = d;
        }
    }
    p->dims = kept;
}

FC_NOINLINE CopyDim copy_take(CopyPlan* p, int at) {
    const CopyDim taken = p->dim[at];
    --p->dims;
    FC_ROLLED
    for (int i = at; i < p->dims; ++i) p->dim[i] = p->dim[i + 1];
    return taken;
}

// Dense runs of 4 or 8 bytes along the last dimension become elements of that size.
inline void copy_grow(CopyPlan* p) {
    const CopyDim& last = p->dim[p->dims - 1];
    const int64_t bytes = last.extent * p->size;
    if (p->dims < 2 || last.sx != p->size || last.sy != p->size || (bytes != 4 && bytes != 8)) return;
    uintptr_t odd = reinterpret_cast<uintptr_t>(p->x) | reinterpret_cast<uintptr_t>(p->y);
    FC_ROLLED
    for (int i = 0; i < p->dims - 1; ++i) odd |= static_cast<uintptr_t>(p->dim[i].sx | p->dim[i].sy);
    if (odd % static_cast<uintptr_t>(bytes)) return;
    p->size = bytes;
    --p->dims;
}

FC_NOINLINE int64_t even_piece(int64_t extent, int64_t most) {
    const int64_t pieces = ceil_div(extent, max64(1, most));
    return ceil_div(ceil_div(extent, pieces), 16) * 16;
}

FC_INLINE bool copy_far(const CopyDim& d) { return magnitude(d.sx) * d.extent > INT32_MAX / 16 || d.sy * d.extent > INT32_MAX / 16; }

// Several dimensions as one of a list of elements; c is the one through which the list goes on.
FC_NOINLINE void copy_list(CopyPlan* p) {
    if (copy_far(p->r) || copy_far(p->c)) return;
    p->small[0] = p->c, p->small[1] = p->r;
    p->inner = 2, p->listed = p->r.extent * p->c.extent;
    while (p->dims && p->listed * p->dim[p->dims - 1].extent <= kTable && !copy_far(p->dim[p->dims - 1])) {
        const CopyDim d = copy_take(p, p->dims - 1);
        for (int i = p->inner++; i > 0; --i) p->small[i] = p->small[i - 1];
        p->small[0] = d;
        p->listed *= d.extent;
    }
    p->r = {1, 0, 0}, p->c = {1, 0, 0};
    if (p->dims && !copy_far(p->dim[p->dims - 1])) p->c = copy_take(p, p->dims - 1);
    p->way = kListed;
}

// Pieces of large turned planes begin where lines of both sides do, wherever rows begin alike: arrays seldom begin with one, and
// each piece would have columns that are written in two parts. (4096 x 6144 floats, 16 bytes behind a line: from 24 to 45 % of a
// copy's speed.)
FC_NOINLINE void copy_leads(CopyPlan* p, int64_t size) {
    if (p->way != kTurned || !p->past || size != 4) return;
    int64_t rows_x = p->r.sx, rows_y = p->c.sy;
    FC_ROLLED
    for (int i = 0; i < p->dims; ++i) rows_x |= p->dim[i].sx, rows_y |= p->dim[i].sy;
    if (rows_y % 64 == 0 && p->r.extent > p->r_piece) p->r_lead = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p->y) / 4 % 16);
    if (rows_x % 64 == 0 && p->c.extent > p->c_piece) p->c_lead = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p->x) / 4 % 16);
}

// `to`: bytes of an element of y, which is converted to where it is not 0.
FC_NOINLINE void copy_plan(const CopyArgs* a, int64_t to, CopyPlan* p) {
    p->size = dtype_bytes(a->from);
    copy_dims(a, p);
    if (!to && p->dims) copy_grow(p);
    const int64_t sx = p->size, sy = to ? to : p->size;
    const CopyDim one{1, sx, sy};
    p->r = p->dims ? copy_take(p, p->dims - 1) : one;
    int along = -1;  // the dimension of x's neighbours
    FC_ROLLED
    for (int i = 0; i < p->dims; ++i)
        if (magnitude(p->dim[i].sx) == sx) along = i;
    const bool dense = p->r.sy == sy;
    p->way = dense && p->r.sx == sx ? kRuns : dense && p->r.sx == 0 ? kFills : kStrided;
    if (!to && dense && along >= 0 && p->way != kRuns && (p->way != kFills || p->r.extent < 16)) {
        p->way = kTurned;
        CopyDim& d = p->dim[along];
        if (d.sx < 0) {
            p->x += (d.extent - 1) * d.sx, p->y += (d.extent - 1) * d.sy;
            d.sx = -d.sx, d.sy = -d.sy;
        }
        // A few streams: copy/turned.inl.h interleaves those of four bytes that lie side by side.
        const bool near_by = p->r.sx <= 4 * sx && p->r.sx > d.extent * sx;
        if (d.extent < 4 ? sx != 4 || near_by : sx != 4 && p->r.extent < 4) p->way = kStrided;
    }
    int at = p->dims - 1;
    if (p->way == kTurned) {
        at = along;
    } else if (p->way == kStrided && magnitude(p->r.sx) > 64) {  // the dimension along which x is nearest
        FC_ROLLED
        for (int i = 0; i < p->dims; ++i)
            if (p->dim[i].sx && (p->dim[at].sx == 0 || magnitude(p->dim[i].sx) < magnitude(p->dim[at].sx))) at = i;
    } else if (p->way == kRuns && at >= 0 && p->r.extent * p->dim[at].extent < 64) {  // short loops cost more than far strides
        FC_ROLLED
        for (int i = 0; i < p->dims; ++i)
            if (p->dim[i].extent > 4 * p->dim[at].extent) at = i;
    }
    p->c = at < 0 ? one : copy_take(p, at);
    if (!to && p->way != kRuns && p->r.extent * p->c.extent < 64 && p->dims) copy_list(p);
    int64_t planes = 1;
    FC_ROLLED
    for (int i = 0; i < p->dims; ++i) planes *= p->dim[i].extent;
    const int64_t values = kPieceBytes / sy;
    if (p->way == kListed) {
        p->r_piece = 1, p->c_piece = min64(p->c.extent, kTable / p->listed);
    } else if (to) {
        p->r_piece = min64(p->r.extent, 512), p->c_piece = max64(1, values / p->r_piece);
    } else if (p->way != kTurned) {
        p->r_piece = min64(p->r.extent, values), p->c_piece = max64(1, values / p->r_piece);
    } else if (p->r.extent <= 256) {
        p->r_piece = p->r.extent, p->c_piece = even_piece(p->c.extent, max64(256, values / p->r.extent / 16 * 16));
    } else {
        p->c_piece = p->c.extent <= 64 ? p->c.extent : even_piece(p->c.extent, 64);
        p->r_piece = even_piece(p->r.extent, max64(1024, values / p->c_piece / 16 * 16));
    }
    p->past = planes * p->r.extent * p->c.extent * sy > kPast;
    copy_leads(p, sx);
    p->r_pieces = ceil_div(p->r.extent + p->r_lead, p->r_piece), p->c_pieces = ceil_div(p->c.extent + p->c_lead, p->c_piece);
    p->units = planes * p->r_pieces * p->c_pieces;
}

// ---- from tiles to units ------------------------------------------------------------------------------------------------

FC_INLINE int64_t copy_shares(const CopyArgs* a) { return ceil_div(copy_count(a) * dtype_bytes(a->to), kCopyBytes); }

// Where a unit is, and the next one: pieces of c change first, then those of r, then the dimensions.
struct CopyPlace {
    int64_t c, r, index[kDims];
    const char* x;
    char* y;
};

FC_NOINLINE CopyPlace copy_place(const CopyPlan& p, int64_t unit) {
    CopyPlace at{unit % p.c_pieces, unit / p.c_pieces % p.r_pieces, {}, p.x, p.y};
    unit /= p.c_pieces * p.r_pieces;
    FC_ROLLED
    for (int i = p.dims - 1; i >= 0; --i) {
        at.index[i] = unit % p.dim[i].extent, unit /= p.dim[i].extent;
        at.x += at.index[i] * p.dim[i].sx, at.y += at.index[i] * p.dim[i].sy;
    }
    return at;
}

FC_NOINLINE void copy_next(const CopyPlan& p, CopyPlace* at) {
    if (++at->c < p.c_pieces) return;
    at->c = 0;
    if (++at->r < p.r_pieces) return;
    at->r = 0;
    FC_ROLLED
    for (int i = p.dims - 1; i >= 0; --i) {
        at->x += p.dim[i].sx, at->y += p.dim[i].sy;
        if (++at->index[i] < p.dim[i].extent) return;
        at->x -= p.dim[i].extent * p.dim[i].sx, at->y -= p.dim[i].extent * p.dim[i].sy;
        at->index[i] = 0;
    }
}

FC_INLINE Plane copy_plane(const CopyPlan& p, const CopyPlace& at) {
    const int64_t r = max64(0, at.r * p.r_piece - p.r_lead), c = max64(0, at.c * p.c_piece - p.c_lead);
    const int64_t r1 = min64(p.r.extent, (at.r + 1) * p.r_piece - p.r_lead), c1 = min64(p.c.extent, (at.c + 1) * p.c_piece - p.c_lead);
    return {at.x + r * p.r.sx + c * p.c.sx, at.y + r * p.r.sy + c * p.c.sy, r1 - r, p.r.sx, p.r.sy, c1 - c, p.c.sx, p.c.sy};
}

// The units of the tiles [begin, end).
template <class Work>
FC_INLINE void copy_units(const CopyArgs* a, const CopyPlan& p, int64_t begin, int64_t end, Work work) {
    const int64_t shares = copy_shares(a);
    const int64_t last = end == shares ? p.units : p.units / shares * end + p.units % shares * end / shares;
    int64_t unit = p.units / shares * begin + p.units % shares * begin / shares;
    if (unit >= last) return;
    CopyPlace at = copy_place(p, unit);
    for (; unit < last; ++unit, copy_next(p, &at)) work(copy_plane(p, at));
}

// ---- as they are --------------------------------------------------------------------------------------------------------

FC_INLINE int64_t copy_tiles(const CopyArgs* a) { return copy_shares(a); }
FC_INLINE size_t copy_scratch(const CopyArgs*) { return kTurnScratch; }

FC_NOINLINE void fill_table(const CopyPlan& p, CopyTable* t) {
    int64_t index[kDims] = {}, x = 0, y = 0;
    for (int64_t k = 0; k < p.listed; ++k) {
        t->x[k] = static_cast<int32_t>(x), t->y[k] = static_cast<int32_t>(y);
        FC_ROLLED
        for (int i = p.inner - 1; i >= 0; --i) {
            x += p.small[i].sx, y += p.small[i].sy;
            if (++index[i] < p.small[i].extent) break;
            x -= p.small[i].extent * p.small[i].sx, y -= p.small[i].extent * p.small[i].sy;
            index[i] = 0;
        }
    }
    for (int64_t k = p.listed; k < p.listed * p.c_piece; ++k)
        t->x[k] = t->x[k - p.listed] + static_cast<int32_t>(p.c.sx), t->y[k] = t->y[k - p.listed] + static_cast<int32_t>(p.c.sy);
}

FC_INLINE void copy_table(const CopyTable& t, const Plane& plane, int64_t listed, int64_t size) {
    const int64_t n = plane.C * listed;
    size == 1   ? copy_listed<1>(t, plane.x, plane.y, n)
    : size == 4 ? copy_listed<4>(t, plane.x, plane.y, n)
                : copy_listed<8>(t, plane.x, plane.y, n);
}

inline void copy_run(const CopyArgs* a, int64_t begin, int64_t end, void* scratch) {
    CopyPlan p;
    copy_plan(a, 0, &p);
    CopyTable* table = static_cast<CopyTable*>(scratch);
    if (p.way == kListed) fill_table(p, table);
    copy_units(a, p, begin, end, [&](const Plane& plane) {
        if (p.way == kRuns)
            copy_runs(plane, p.size, p.past);
        else if (p.way == kFills)
            fill_runs(plane, p.size, p.past);
        else if (p.way == kTurned)
            turn_values(plane, p.size, p.past, scratch);
        else if (p.way == kListed)
            copy_table(*table, plane, p.listed, p.size);
        else
            copy_values_of(plane, p.size);
    });
    if (p.past) stream_end();
}

// ---- converted ----------------------------------------------------------------------------------------------------------

template <class To, class From>
FC_INLINE To converted(From v) {
    return static_cast<To>(v);
}
// Outside of the integer's range: the smallest one, whatever the instruction set.
template <>
FC_INLINE int32_t converted<int32_t, float>(float v) {
    return v >= -2147483648.0f && v < 2147483648.0f ? static_cast<int32_t>(v) : INT32_MIN;
}
template <>
FC_INLINE int64_t converted<int64_t, float>(float v) {
    return v >= -9223372036854775808.0f && v < 9223372036854775808.0f ? static_cast<int64_t>(v) : INT64_MIN;
}
template <>
FC_INLINE uint8_t converted<uint8_t, float>(float v) {  // the last byte of the 64-bit integer
    return static_cast<uint8_t>(v >= -2147483648.0f && v < 2147483648.0f ? static_cast<int32_t>(v) : 0);
}
template <>
FC_INLINE bool converted<bool, float>(float v) {  // by its bits: denormals are not 0
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits << 1 != 0;
}

template <class From, class To>
constexpr bool SameKind = false;
template <class T>
constexpr bool SameKind<T, T> = true;
template <>
constexpr bool SameKind<int8_t, uint8_t> = true;

template <class From, class To>
FC_NOINLINE void convert_all(const void* x, void* y, int64_t n) {
    const From* from = static_cast<const From*>(x);
    To* to = static_cast<To*>(y);
    if constexpr (sizeof(From) != sizeof(To) || !SameKind<From, To>)  // else nothing to convert: not called
        for (int64_t i = 0; i < n; ++i) to[i] = converted<To, From>(from[i]);
}

template <class From>
FC_INLINE void convert_from(int64_t to, const void* x, void* y, int64_t n) {
    switch (to) {
        case FC_FLOAT32: convert_all<From, float>(x, y, n); break;
        case FC_INT64: convert_all<From, int64_t>(x, y, n); break;
        case FC_INT32: convert_all<From, int32_t>(x, y, n); break;
        case FC_BOOL: convert_all<From, bool>(x, y, n); break;
        default: convert_all<From, uint8_t>(x, y, n);
    }
}

FC_INLINE void convert(int64_t from, int64_t to, const void* x, void* y, int64_t n) {
    switch (from) {
        case FC_FLOAT32: convert_from<float>(to, x, y, n); break;
        case FC_INT64: convert_from<int64_t>(to, x, y, n); break;
        case FC_INT32: convert_from<int32_t>(to, x, y, n); break;
        case FC_INT8: convert_from<int8_t>(to, x, y, n); break;
        default: convert_from<uint8_t>(to, x, y, n);
    }
}

FC_INLINE int64_t cast_tiles(const CopyArgs* a) { return copy_shares(a); }
FC_INLINE size_t cast_scratch(const CopyArgs*) { return 2 * 8 * 512; }

inline void cast_run(const CopyArgs* a, int64_t begin, int64_t end, void* scratch) {
    CopyPlan p;
    const int64_t to = dtype_bytes(a->to);
    copy_plan(a, to, &p);
    char *read = static_cast<char*>(scratch), *made = read + 8 * 512;
    copy_units(a, p, begin, end, [&](const Plane& plane) {
        for (int64_t c = 0; c < plane.C; ++c) {
            const char* x = plane.x + c * plane.cx;
            char* y = plane.y + c * plane.cy;
            if (plane.rx != p.size) {
                copy_values_of({x, read, plane.R, plane.rx, p.size, 1, 0, 0}, p.size);
                x = read;
            }
            convert(a->from, a->to, x, plane.ry == to ? y : made, plane.R);
            if (plane.ry != to) copy_values_of({made, y, plane.R, to, plane.ry, 1, 0, 0}, to);
        }
    });
}

// ---- added up -----------------------------------------------------------------------------------------------------------

// How many of the dimensions, from the slowest on, lead to places of y that no other index of them leads to.
FC_INLINE int separable(const CopyPlan& p) {
    int64_t reach = 0;
    int least = p.dims;  // the first dimension from which on everything is
    bool all = true;
    FC_ROLLED
    for (int i = p.dims - 1; i >= 0; --i) {
        if (p.dim[i].sy < reach + 4) all = false, least = i;
        reach += (p.dim[i].extent - 1) * p.dim[i].sy;
    }
    return all ? p.dims : least;
}

FC_INLINE int64_t f32_copy_add_tiles(const CopyArgs* a) { return copy_shares(a); }
FC_INLINE size_t f32_copy_add_scratch(const CopyArgs*) { return 0; }

FC_NOINLINE void add_row(const Plane& p) {
    constexpr int W = kWidth;
    const float* x = reinterpret_cast<const float*>(p.x);
    float* y = reinterpret_cast<float*>(p.y);
    const int64_t rx = p.rx / 4, ry = p.ry / 4;
    int64_t r = 0;
    if (rx == 1 && ry == 1)
        for (; r < p.R; r += W) {
            const int n = static_cast<int>(min64(W, p.R - r));
            store_n<W>(y + r, load_n<W>(y + r, n) + load_n<W>(x + r, n), n);
        }
    for (; r < p.R; ++r) y[r * ry] += x[r * rx];
}

inline void f32_copy_add_run(const CopyArgs* a, int64_t begin, int64_t end, void*) {
    CopyPlan p;
    copy_dims(a, &p);
    int free = separable(p), row = p.dims - 1;
    while (row > 0 && p.dim[row].sy == 0) --row;  // rows of places, not sums into one
    const bool whole = free > row;                // rows can be cut
    free = free < row ? free : row < 0 ? 0 : row;
    CopyPlan inner = p;                           // the dimensions behind: one worker's, in order
    inner.dims = 0;
    FC_ROLLED
    for (int i = free; i < p.dims; ++i)
        if (i != row) inner.dim[inner.dims++] = p.dim[i];
    p.r = row < 0 ? CopyDim{1, 4, 4} : p.dim[row], p.c = {1, 0, 0};
    p.dims = free;
    p.r_piece = whole ? min64(p.r.extent, 4096) : p.r.extent, p.c_piece = 1;
    p.r_pieces = ceil_div(p.r.extent, p.r_piece), p.c_pieces = 1;
    p.units = p.r_pieces;
    FC_ROLLED
    for (int i = 0; i < p.dims; ++i) p.units *= p.dim[i].extent;
    inner.r_pieces = inner.c_pieces = 1;
    int64_t rows = 1;
    FC_ROLLED
    for (int i = 0; i < inner.dims; ++i) rows *= inner.dim[i].extent;
    copy_units(a, p, begin, end, [&](const Plane& plane) {
        inner.x = plane.x, inner.y = plane.y;
        CopyPlace at = copy_place(inner, 0);
        for (int64_t i = 0; i < rows; ++i, copy_next(inner, &at))
            add_row({at.x, at.y, plane.R, plane.rx, plane.ry, 1, 0, 0});
    });
}

}  // namespace
}  // namespace
#endif
