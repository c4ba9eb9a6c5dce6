// `map`: a program of elementwise instructions, one instruction at a time over blocks that stay in the first-level cache.
//
//   operand --load--> register of `block` floats --op--> register --op--> ... --store--> operand
//
// The iteration space is cut into rows of its last dimension; a block is as many whole rows as it holds, or a piece of one, or
// (`turned`) a square of the last two dimensions. A register is a pointer and a step: a contiguous operand is read, and a
// contiguous output written, where it lies; what is one value has the step 0; anything else is copied into the block, which is
// left out where the block is the same as before (a vector of channels). Registers are whole units: only loads and stores know
// of tails. Of chains of short instructions eight vectors at a time stay in the processor's registers (map/links.inl.h). An
// element's bits depend on nothing but its operands. Bound by memory; what is no chain, from a dozen instructions on by the
// caches.
#ifndef FASTCONV_MAP_INL_H
#define FASTCONV_MAP_INL_H

#include "fastconv/map/fold.inl.h"
#include "fastconv/map/links.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kProgramTile = 16384;
constexpr int64_t kUnit = 2 * kWidth;  // what instructions take at a time

// ---- instructions -------------------------------------------------------------------------------------------------

typedef void (*MapOp)(const MapRegister& rx, const MapRegister& rz, const MapRegister& rw, float* y, int64_t count);

// The loop of an instruction; copies of it spare the loads of the last `still` operands, which are one vector each.
#define FC_OP_LOOP(operands, body, chunk, still)                                                                     \
    for (int64_t i = 0; i < count; i += chunk) {                                                                     \
        _Pragma("GCC unroll 2") for (int64_t j = 0; j < chunk; j += kWidth, px += sx) {                              \
            const V x = load<kWidth>(px);                                                                            \
            if (operands > 1 && operands - still > 1) z = load<kWidth>(pz), pz += sz;                                \
            if (operands > 2 && !still) w = load<kWidth>(pw), pw += sw;                                              \
            (void)z, (void)w;                                                                                        \
            store<kWidth>(y + i + j, (body));                                                                        \
        }                                                                                                            \
    }
#define FC_OP_OVER(name, operands, body, chunk, twice)                                                               \
    void map_op_##name(const MapRegister& rx, const MapRegister& rz, const MapRegister& rw, float* y, int64_t count) { \
        const float *px = rx.p, *pz = rz.p, *pw = rw.p;                                                              \
        const int64_t sx = rx.step, sz = rz.step, sw = rw.step;                                                      \
        V z{}, w{};                                                                                                  \
        if (twice && operands > 2 && !sw) {                                                                          \
            w = load<kWidth>(pw);                                                                                    \
            if (sz) {                                                                                                \
                FC_OP_LOOP(operands, body, chunk, 1)                                                                 \
                return;                                                                                              \
            }                                                                                                        \
        }                                                                                                            \
        if (twice && operands > 1 && !sz && (operands < 3 || !sw)) {                                                 \
            z = load<kWidth>(pz);                                                                                    \
            FC_OP_LOOP(operands, body, chunk, (operands > 2 ? 2 : 1))                                                \
            return;                                                                                                  \
        }                                                                                                            \
        FC_OP_LOOP(operands, body, chunk, 0)                                                                         \
    }
#define FC_OP(name, operands, body) FC_OP_OVER(name, operands, body, kUnit, true)
#define FC_SHORT FC_OP
#define FC_FUNCTION(name, operands, body) FC_OP_OVER(name, operands, body, kWidth, false)
#include "fastconv/map/map.def"
#undef FC_OP
#undef FC_FUNCTION

const MapOp map_ops[] = {
#define FC_OP(name, operands, body) map_op_##name,
#define FC_FUNCTION FC_OP
#include "fastconv/map/map.def"
#undef FC_OP
#undef FC_FUNCTION
};

// ---- geometry -----------------------------------------------------------------------------------------------------

struct MapGeometry {
    int64_t rows, columns;        // of the iteration space
    int64_t high, wide;           // of a block
    int64_t across, blocks, per;  // blocks beside one another, in all, per tile
};

FC_INLINE int64_t map_extent(const ProgramArgs* a, int64_t d) { return d || !a->batched ? a->extents[d] : a->extents[d] * a->n; }

FC_INLINE MapGeometry map_geometry(const ProgramArgs* a) {
    MapGeometry g;
    g.rows = 1;
    for (int64_t d = 0; d + 1 < a->rank; ++d) g.rows *= map_extent(a, d);
    g.columns = map_extent(a, a->rank - 1);
    if (a->turned) {
        g.high = 16;
        g.wide = min64(g.columns, 32);
    } else if (g.columns > a->block) {  // pieces of a row, alike
        g.high = 1;
        g.wide = a->fold ? a->block : ceil_div(ceil_div(g.columns, ceil_div(g.columns, a->block)), kUnit) * kUnit;
    } else {  // rows that are whole units together
        g.wide = max64(1, g.columns);
        int64_t unit = kUnit;
        while (unit > 1 && g.wide * (unit / 2) % kUnit == 0) unit /= 2;
        const int64_t fit = a->block / g.wide;
        g.high = fit >= unit ? fit / unit * unit : g.wide * unit <= 2 * a->block ? unit : max64(1, fit);
    }
    g.high = max64(1, min64(g.high, g.rows));
    g.across = ceil_div(g.columns, g.wide);
    g.blocks = ceil_div(g.rows, g.high) * g.across;
    g.per = max64(1, kProgramTile / (g.high * g.wide));
    return g;
}

// ---- rows in and out ----------------------------------------------------------------------------------------------

// count elements at p, `stride` apart, to y, which has room for whole vectors.
template <class T>
FC_INLINE void map_load(const T* p, int64_t stride, float* y, int64_t count) {
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(p[i]);
    } else {
        for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(p[i * stride]);
    }
}

inline void map_load_random(const FcRandomState* state, int64_t stream, int64_t first, int64_t stride, float* y, int64_t count) {
    alignas(64) uint32_t words[kRandomBlock];
    int64_t held = -1;
    for (int64_t i = 0; i < count;) {
        const int64_t e = first + i * stride, block = e / kRandomBlock, at = e % kRandomBlock;
        if (block != held) random_block(state, stream, held = block, words);
        const int64_t run = stride == 1 ? min64(count - i, kRandomBlock - at) : stride ? 1 : count - i;
        for (int64_t j = 0; j < run; ++j)
            y[i + j] = static_cast<float>(static_cast<int32_t>(words[stride ? at + j : at] >> 8)) * 0x1p-24f;
        i += run;
    }
}

// A row from element `offset` of the operand.
inline void map_load_row(const FcOperand* o, int64_t offset, int64_t stride, float* y, int64_t count) {
    switch (o->element) {
        case FC_FLOAT32: {
            const float* p = static_cast<const float*>(o->data) + offset;
            if (stride == 0) {
                const V v = sp(*p);
                for (int64_t i = 0; i < count; i += kWidth) store<kWidth>(y + i, v);
            } else if (stride == 1) {
                int64_t i = 0;
                for (; i + kWidth <= count; i += kWidth) store<kWidth>(y + i, load<kWidth>(p + i));
                if (i < count) store<kWidth>(y + i, load_n<kWidth>(p + i, static_cast<int>(count - i)));
            } else {
                map_load(p, stride, y, count);
            }
            break;
        }
        case FC_INT64: map_load(static_cast<const int64_t*>(o->data) + offset, stride, y, count); break;
        case FC_INT32: map_load(static_cast<const int32_t*>(o->data) + offset, stride, y, count); break;
        case FC_INT8: map_load(static_cast<const int8_t*>(o->data) + offset, stride, y, count); break;
        case FC_RANDOM: map_load_random(static_cast<const FcRandomState*>(o->data), o->stream, offset, stride, y, count); break;
        default: map_load(static_cast<const uint8_t*>(o->data) + offset, stride, y, count);
    }
}

template <class T>
FC_INLINE void map_store(T* p, int64_t stride, const float* x, int64_t count) {
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) p[i] = static_cast<T>(static_cast<int64_t>(x[i]));
    } else {
        for (int64_t i = 0; i < count; ++i) p[i * stride] = static_cast<T>(static_cast<int64_t>(x[i]));
    }
}

FC_INLINE void map_store_truth(uint8_t* p, int64_t stride, const float* x, int64_t count) {
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) p[i] = x[i] != 0.0f;
    } else {
        for (int64_t i = 0; i < count; ++i) p[i * stride] = x[i] != 0.0f;
    }
}

inline void map_store_row(const FcOperand* o, int64_t offset, int64_t stride, const float* x, int64_t count) {
    switch (o->element) {
        case FC_FLOAT32: {
            float* p = static_cast<float*>(o->data) + offset;
            if (stride == 1) {
                int64_t i = 0;
                for (; i + kWidth <= count; i += kWidth) store<kWidth>(p + i, load<kWidth>(x + i));
                if (i < count) store_n<kWidth>(p + i, load<kWidth>(x + i), static_cast<int>(count - i));
            } else {
                for (int64_t i = 0; i < count; ++i) p[i * stride] = x[i];
            }
            break;
        }
        case FC_INT64: map_store(static_cast<int64_t*>(o->data) + offset, stride, x, count); break;
        case FC_INT32: map_store(static_cast<int32_t*>(o->data) + offset, stride, x, count); break;
        case FC_INT8: map_store(static_cast<int8_t*>(o->data) + offset, stride, x, count); break;
        case FC_UINT8: map_store(static_cast<uint8_t*>(o->data) + offset, stride, x, count); break;
        default:
            map_store_truth(static_cast<uint8_t*>(o->data) + offset, stride, x, count);
    }
}

// Rows of floats from one place to another; `whole`: behind a row of the target there is room for the rest of a vector.
template <bool whole>
FC_INLINE void map_copy_rows(const float* x, int64_t ldx, float* y, int64_t ldy, int64_t rows, int64_t columns) {
    const int64_t vectors = columns / kWidth * kWidth;
    const int rest = static_cast<int>(columns - vectors);
    for (int64_t r = 0; r < rows; ++r, x += ldx, y += ldy) {
        for (int64_t i = 0; i < vectors; i += kWidth) store<kWidth>(y + i, load<kWidth>(x + i));
        if (!rest) continue;
        if (whole) {
            store<kWidth>(y + vectors, load_n<kWidth>(x + vectors, rest));
        } else {
            store_n<kWidth>(y + vectors, load<kWidth>(x + vectors), rest);
        }
    }
}

// A block of the iteration space: `rows` rows from the one at `index`, `count` columns from `column`.
struct MapBlock {
    const int64_t* index;  // of the first row, in the dimensions before the last
    int64_t rows, column, columns;
    bool single;           // whether all rows lie in one run of the dimension before the last
};

FC_INLINE int64_t map_offset(const ProgramArgs* a, const FcOperand* o, const MapBlock& b) {
    int64_t offset = b.column * o->strides[a->rank - 1];
    for (int64_t d = 0; d + 1 < a->rank; ++d) offset += b.index[d] * o->strides[d];
    return offset;
}

// Calls row(offset, place in the block) for each row.
template <class Row>
FC_INLINE void map_rows_of(const ProgramArgs* a, const FcOperand* o, const MapBlock& b, int64_t offset, const Row& row) {
    int64_t index[FC_MAP_RANK], at = 0;
    for (int64_t d = 0; d + 1 < a->rank; ++d) index[d] = b.index[d];
    while (true) {
        row(offset, at * b.columns);
        if (++at == b.rows) return;
        for (int64_t d = a->rank - 2;; --d) {  // the next row: carries
            offset += o->strides[d];
            if (++index[d] < map_extent(a, d) || d == 0) break;
            offset -= index[d] * o->strides[d];
            index[d] = 0;
        }
    }
}

// Whether an operand's block is a run of such elements in memory.
FC_INLINE bool map_is_run(const ProgramArgs* a, const FcOperand* o, const MapBlock& b, int64_t element = FC_FLOAT32) {
    if (o->element != element || o->strides[a->rank - 1] != 1) return false;
    int64_t length = b.columns;
    for (int64_t d = a->rank - 2; d >= 0 && b.rows > 1; --d) {
        if (o->strides[d] != length) return false;
        if (b.single) break;
        length *= map_extent(a, d);
    }
    return true;
}

FC_INLINE MapBlock map_block(const ProgramArgs* a, const MapGeometry& g, int64_t at, int64_t* index) {
    const int64_t row = at / g.across * g.high;
    MapBlock b = {index, min64(g.high, g.rows - row), at % g.across * g.wide, 0, true};
    b.columns = min64(g.wide, g.columns - b.column);
    int64_t rest = row;
    for (int64_t d = a->rank - 2; d >= 0; --d) {
        const int64_t extent = map_extent(a, d);
        index[d] = rest % extent;
        rest /= extent;
        if (d == a->rank - 2) b.single = index[d] + b.rows <= extent;
    }
    return b;
}

// One instruction over rows of floats that are whole units, at a distance from one another: row by row, where they lie.
FC_INLINE bool map_is_rowwise(const ProgramArgs* a) {
    const int64_t last = a->rank - 1;
    if (a->instructions != 1 || a->outputs != 1 || a->fold || a->turned || last == 0 || a->extents[last] % kUnit) return false;
    bool apart = false;
    for (int64_t i = 0; i < a->inputs + a->outputs; ++i) {
        const FcOperand* o = &a->operands[i];
        if (o->element != FC_FLOAT32 || o->strides[last] != 1) return false;
        apart |= o->strides[last - 1] != 0 && o->strides[last - 1] != a->extents[last];
    }
    return apart;
}
inline void map_rowwise(const ProgramArgs* a, const MapBlock& b, MapRegister* registers) {
    const FcInstruction* c = a->code;
    const FcOperand* o = &a->operands[a->inputs];
    const MapOp op = map_ops[c->op];
    float* y = static_cast<float*>(o->data) + map_offset(a, o, b);
    for (int64_t i = 0; i < a->inputs; ++i)
        registers[i] = {static_cast<const float*>(a->operands[i].data) + map_offset(a, &a->operands[i], b), kWidth};
    for (int64_t r = 0; r < b.rows; ++r, y += o->strides[a->rank - 2]) {
        op(registers[c->of[0]], registers[c->of[1]], registers[c->of[2]], y, b.columns);
        for (int64_t i = 0; i < a->inputs; ++i) registers[i].p += a->operands[i].strides[a->rank - 2];
    }
}

// ---- the kernel ---------------------------------------------------------------------------------------------------

// Scratch: a vector per register (for those of one value), a block per input and value, the registers, which block each input
// holds, the links of a chain.
FC_INLINE int64_t map_room(const ProgramArgs* a) { return (2 * max64(a->block, 256) + 2 * kUnit + 15) / 16 * 16; }
FC_INLINE int64_t map_count(const ProgramArgs* a) { return a->inputs + a->constant_count + a->values; }

FC_INLINE int64_t map_tiles(const ProgramArgs* a) {
    const MapGeometry g = map_geometry(a);
    return ceil_div(g.blocks, g.per);
}
struct MapHeld {  // what an input's block in the scratch is: rows from this element on
    int64_t offset, rows;
};

FC_INLINE size_t map_scratch(const ProgramArgs* a) {
    return static_cast<size_t>(map_count(a)) * (sizeof(MapRegister) + 64) + static_cast<size_t>(a->inputs) * sizeof(MapHeld) +
           static_cast<size_t>((a->inputs + a->values) * map_room(a)) * 4 +
           static_cast<size_t>(2 * a->instructions) * sizeof(MapLink) + 256;
}

inline void map_run(const ProgramArgs* a, int64_t begin, int64_t end, void* scratch) {
    const MapGeometry g = map_geometry(a);
    const int64_t room = map_room(a), count = map_count(a), last = a->rank - 1;
    float* vectors = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch) + 63) / 64 * 64);
    float* blocks = vectors + 16 * count;
    MapRegister* registers = reinterpret_cast<MapRegister*>(blocks + (a->inputs + a->values) * room);
    MapHeld* held = reinterpret_cast<MapHeld*>(registers + count);
    MapLink* links = reinterpret_cast<MapLink*>(held + a->inputs);
    for (int64_t i = 0; i < a->inputs; ++i) held[i].rows = 0;
    for (int64_t i = 0; i < a->constant_count; ++i) {
        float* v = vectors + 16 * (a->inputs + i);
        store<kWidth>(v, sp(a->constants[i]));
        registers[a->inputs + i] = {v, 0};
    }
    MapRegister* values = registers + a->inputs + a->constant_count;
    for (int64_t i = 0; i < a->values; ++i) values[i] = {blocks + (a->inputs + i) * room, kWidth};

    const int64_t stop = min64(g.blocks, end * g.per);
    const bool rowwise = map_is_rowwise(a);
    for (int64_t at = begin * g.per; at < stop; ++at) {
        int64_t index[FC_MAP_RANK];
        MapBlock b = map_block(a, g, at, index);
        if (rowwise && b.rows > 1 && b.single) {
            map_rowwise(a, b, registers);
            continue;
        }
        // What a row ends with beside whole units is a block of its own: what is before lies in memory as a register does.
        const int64_t end_of_row = b.column + b.columns;
        if (b.rows == 1 && b.columns > kUnit && !a->fold) b.columns = b.columns / kUnit * kUnit;
        for (; b.column < end_of_row; b.column += b.columns, b.columns = end_of_row - b.column) {
            const int64_t elements = b.rows * b.columns, padded = ceil_div(elements, kUnit) * kUnit;

            for (int64_t i = 0; i < a->inputs; ++i) {
                const FcOperand* o = &a->operands[i];
                const int64_t offset = map_offset(a, o, b), stride = o->strides[last];
                if (elements == padded && map_is_run(a, o, b)) {
                    registers[i] = {static_cast<const float*>(o->data) + offset, kWidth};
                    continue;
                }
                bool still = b.single;  // the rows are one row repeated
                if (b.rows > 1) {
                    still = still && o->strides[last - 1] == 0;
                    bool repeated = true;
                    for (int64_t d = 0; d < last; ++d) repeated &= o->strides[d] == 0;
                    still |= repeated;
                }
                if (still && stride == 0) {  // one value
                    float* v = vectors + 16 * i;
                    if (held[i].rows == 0 || held[i].offset != offset) {
                        map_load_row(o, offset, 0, v, 1);
                        store<kWidth>(v, sp(v[0]));
                        held[i] = {offset, 1};
                    }
                    registers[i] = {v, 0};
                    continue;
                }
                float* y = blocks + i * room;
                registers[i] = {y, kWidth};
                if (still && held[i].offset == offset && held[i].rows >= b.rows) continue;
                held[i] = {offset, still ? b.rows : 0};
                if (a->turned && b.rows > 1 && b.single && o->element == FC_FLOAT32 && o->strides[last - 1] == 1) {
                    const float* p = static_cast<const float*>(o->data) + offset;
                    for (int64_t c = 0; c < b.columns; ++c)
                        for (int64_t r = 0; r < b.rows; ++r) y[r * b.columns + c] = p[c * stride + r];
                    continue;
                }
                if (still) {
                    map_load_row(o, offset, stride, y, b.columns);
                    for (int64_t done = b.columns; done < elements; done *= 2)
                        for (int64_t j = 0; j < min64(done, elements - done); j += kWidth)
                            store<kWidth>(y + done + j, load<kWidth>(y + j));
                    continue;
                }
                if (stride == 1 && b.single && o->element == FC_FLOAT32) {
                    map_copy_rows<true>(static_cast<const float*>(o->data) + offset, last ? o->strides[last - 1] : 0, y,
                                        b.columns, b.rows, b.columns);
                    continue;
                }
                map_rows_of(a, o, b, offset, [&](int64_t from, int64_t to) { map_load_row(o, from, stride, y + to, b.columns); });
            }

            for (int64_t i = 0; i < a->outputs; ++i) {
                const FcOperand* o = &a->operands[a->inputs + i];
                values[i].p = blocks + (a->inputs + i) * room;
                if (o->direct && elements == padded && map_is_run(a, o, b))
                    values[i].p = static_cast<const float*>(o->data) + map_offset(a, o, b);
            }
            int64_t chained = 0;  // instructions of which whole eights of vectors are done already
            const int64_t whole = padded / kLinked * kLinked;
            for (int64_t i = 0; i < a->instructions; ++i) {
                const FcInstruction* c = &a->code[i];
                if (c->chain && whole) {
                    map_chain(c, registers, links);
                    for (int64_t e = 0; e < whole; e += kLinked)
                        links->run(V{}, V{}, V{}, V{}, V{}, V{}, V{}, V{}, links, e);
                    chained = i + c->chain;
                }
                const int64_t first = i < chained ? whole : 0;
                const auto from = [&](int32_t which) -> MapRegister {
                    const MapRegister& r = registers[which];
                    return {r.step ? r.p + first : r.p, r.step};
                };
                if (first < padded)
                    map_ops[c->op](from(c->of[0]), from(c->of[1]), from(c->of[2]), const_cast<float*>(registers[c->to].p) + first,
                                   padded - first);
            }
            if (a->fold) {
                float* y = static_cast<float*>(a->operands[a->inputs].data) + at / g.across * g.high * g.across + at % g.across;
                fold_rows(a->fold, blocks + a->inputs * room, b.rows, b.columns, y, g.across);
                continue;
            }
            for (int64_t i = 0; i < a->outputs; ++i) {
                const FcOperand* o = &a->operands[a->inputs + i];
                const float* x = blocks + (a->inputs + i) * room;
                if (values[i].p == x && b.single && o->element == FC_FLOAT32 && o->strides[last] == 1) {
                map_copy_rows<false>(x, b.columns, static_cast<float*>(o->data) + map_offset(a, o, b), last ? o->strides[last - 1] : 0,
                                     b.rows, b.columns);
            } else if (values[i].p == x)
                    map_rows_of(a, o, b, map_offset(a, o, b), [&](int64_t to, int64_t from) {
                        map_store_row(o, to, o->strides[last], x + from, b.columns);
                    });
            }
        }
    }
}

}  // namespace
}  // namespace
#endif
