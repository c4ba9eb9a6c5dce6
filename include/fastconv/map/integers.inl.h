// `i64_map`: the programs of `map` over whole numbers, exact and wrapping round at 64 bits; a result is cut to its dtype.
//
// Blocks, rows and registers are those of map/map.inl.h, of int64 and without tails: the loops are the compiler's vectors. What lies
// as a run of int64 is read, and written, where it is; runs of bytes or int32 by one instruction, too (map/narrow.inl.h). Bound by memory, divisions and powers by their own time.
#include "fastconv/simd/integers.inl.h"
#include "fastconv/map/narrow.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// ---- instructions -------------------------------------------------------------------------------------------------

// Divisions by 0 give 0 and are reported; those by -1 of the least number wrap round rather than trap.
FC_INLINE int64_t whole_quotient(int64_t x, int64_t z, bool& zero) {
    zero |= z == 0;
    return z == 0 ? 0 : z == -1 ? wrapped_neg(x) : x / z;
}
FC_INLINE int64_t whole_rest(int64_t x, int64_t z, bool& zero) {
    zero |= z == 0;
    return z == 0 || z == -1 ? 0 : x % z;
}
FC_INLINE int64_t whole_floor(int64_t x, int64_t z, bool& zero) {
    const int64_t q = whole_quotient(x, z, zero), r = whole_rest(x, z, zero);
    return r != 0 && (r < 0) != (z < 0) ? q - 1 : q;
}
FC_INLINE int64_t whole_remainder(int64_t x, int64_t z, bool& zero) {
    const int64_t r = whole_rest(x, z, zero);
    return r != 0 && (r < 0) != (z < 0) ? r + z : r;
}
// By squares; of a negative exponent what is left of 1 / x^-z.
FC_INLINE int64_t whole_power(int64_t x, int64_t z) {
    if (z < 0) return x == 1 ? 1 : x == -1 ? (z & 1 ? -1 : 1) : 0;
    int64_t y = 1;
    for (; z; z >>= 1, x = wrapped_mul(x, x))
        if (z & 1) y = wrapped_mul(y, x);
    return y;
}
FC_INLINE int64_t whole_shift_left(int64_t x, int64_t z) {
    return z < 0 || z > 63 ? 0 : static_cast<int64_t>(static_cast<uint64_t>(x) << z);
}
FC_INLINE int64_t whole_shift_right(int64_t x, int64_t z) { return x >> (z < 0 || z > 63 ? 63 : z); }
FC_INLINE int64_t whole_clamp(int64_t x, int64_t low, int64_t high) {
    const int64_t y = x > low ? x : low;
    return y < high ? y : high;
}

typedef void (*WholeOp)(const int64_t* px, const int64_t* pz, const int64_t* pw, int64_t* y, int64_t count, int64_t* fault);

#define FC_WHOLE(name, body)                                                                                          \
    void whole_op_##name(const int64_t* px, const int64_t* pz, const int64_t* pw, int64_t* y, int64_t count, int64_t* fault) { \
        bool zero = false;                                                                                            \
        for (int64_t i = 0; i < count; ++i) {                                                                         \
            const int64_t x = px[i], z = pz[i], w = pw[i];                                                            \
            (void)x, (void)z, (void)w;                                                                                   \
            y[i] = (body);                                                                                            \
        }                                                                                                             \
        if (zero && fault) __atomic_store_n(fault, 1, __ATOMIC_RELAXED);                                              \
    }
#include "fastconv/map/integers.def"
#undef FC_WHOLE

FC_INLINE WholeOp whole_op(int op) {
    switch (op) {
#define FC_WHOLE(name, body) case map_code_##name: return whole_op_##name;
#include "fastconv/map/integers.def"
#undef FC_WHOLE
        default: return nullptr;
    }
}

// ---- the kernel ---------------------------------------------------------------------------------------------------

FC_INLINE int64_t i64_map_tiles(const ProgramArgs* a) { return map_tiles(a); }
FC_INLINE size_t i64_map_scratch(const ProgramArgs* a) {
    return static_cast<size_t>(map_count(a)) * (sizeof(int64_t*) + static_cast<size_t>(map_room(a)) * 8) +
           (a->narrow ? static_cast<size_t>(map_room(a)) * 4 : 0) + 128;
}

// The one instruction on the elements of a block as they lie; false where they do not lie as runs. `constants`: a block of the
// only constant.
FC_INLINE bool narrow_run(const ProgramArgs* a, const MapBlock& b, const void* constants, int64_t elements) {
    const FcInstruction* c = a->code;
    const int64_t size = a->narrow == FC_INT32 ? 4 : 1;
    const FcOperand* to = &a->operands[a->inputs];
    const void* of[2] = {constants, constants};
    if (!map_is_run(a, to, b, to->element)) return false;
    for (int i = 0; i < 2; ++i) {
        if (c->of[i] >= a->inputs) continue;
        const FcOperand* o = &a->operands[c->of[i]];
        if (!map_is_run(a, o, b, o->element)) return false;
        of[i] = static_cast<const char*>(o->data) + size * map_offset(a, o, b);
    }
    char* y = static_cast<char*>(to->data) + (to->element == FC_INT32 ? 4 : 1) * map_offset(a, to, b);
    narrow_op(c->op, a->narrow)(of[0], of[1], y, elements);
    return true;
}

inline void i64_map_run(const ProgramArgs* a, int64_t begin, int64_t end, void* scratch) {
    const MapGeometry g = map_geometry(a);
    const int64_t room = map_room(a), count = map_count(a), last = a->rank - 1, base = a->inputs + a->constant_count;
    int64_t* blocks = static_cast<int64_t*>(scratch);
    const int64_t** registers = reinterpret_cast<const int64_t**>(blocks + count * room);
    for (int64_t i = 0; i < count; ++i) registers[i] = blocks + i * room;
    const int64_t most = min64(room, g.high * g.wide);  // elements of a block
    for (int64_t i = 0; i < a->constant_count; ++i)
        for (int64_t j = 0; j < most; ++j) blocks[(a->inputs + i) * room + j] = a->integers[i];

    // Constants as elements of the inputs, behind all registers.
    uint8_t* constants = reinterpret_cast<uint8_t*>(registers + count);
    for (int64_t j = 0; a->narrow && a->constant_count && j < most; ++j) {
        if (a->narrow == FC_INT32)
            reinterpret_cast<int32_t*>(constants)[j] = static_cast<int32_t>(a->integers[0]);
        else
            constants[j] = static_cast<uint8_t>(a->integers[0]);
    }

    const int64_t stop = min64(g.blocks, end * g.per);
    for (int64_t at = begin * g.per; at < stop; ++at) {
        int64_t index[FC_MAP_RANK];
        const MapBlock b = map_block(a, g, at, index);
        const int64_t elements = b.rows * b.columns;
        if (a->narrow && narrow_run(a, b, constants, elements)) continue;
        for (int64_t i = 0; i < a->inputs; ++i) {
            const FcOperand* o = &a->operands[i];
            const int64_t offset = map_offset(a, o, b);
            int64_t* y = blocks + i * room;
            registers[i] = y;
            if (map_is_run(a, o, b, FC_INT64)) {
                registers[i] = static_cast<const int64_t*>(o->data) + offset;
                continue;
            }
            map_rows_of(a, o, b, offset, [&](int64_t from, int64_t to) {
                load_integers(o->data, o->element, from, o->strides[last], b.columns, y + to);
            });
        }
        for (int64_t i = 0; i < a->outputs; ++i) {
            const FcOperand* o = &a->operands[a->inputs + i];
            const bool there = o->direct && map_is_run(a, o, b, FC_INT64);
            registers[base + i] = there ? static_cast<const int64_t*>(o->data) + map_offset(a, o, b) : blocks + (base + i) * room;
        }
        for (int64_t i = 0; i < a->instructions; ++i) {
            const FcInstruction* c = &a->code[i];
            whole_op(c->op)(registers[c->of[0]], registers[c->of[1]], registers[c->of[2]], const_cast<int64_t*>(registers[c->to]),
                            elements, a->zero);
        }
        for (int64_t i = 0; i < a->outputs; ++i) {
            const FcOperand* o = &a->operands[a->inputs + i];
            const int64_t* x = blocks + (base + i) * room;
            if (registers[base + i] != x) continue;
            map_rows_of(a, o, b, map_offset(a, o, b), [&](int64_t to, int64_t from) {
                store_integers(x + from, b.columns, o->data, o->element, to, o->strides[last]);
            });
        }
    }
}

}  // namespace
}  // namespace
