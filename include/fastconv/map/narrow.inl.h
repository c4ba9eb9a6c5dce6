// Instructions over bytes and int32 as they lie: what one instruction makes of runs of one dtype need not be widened to int64.
#ifndef FASTCONV_MAP_NARROW_INL_H
#define FASTCONV_MAP_NARROW_INL_H

#include "fastconv/map/map.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

enum MapCode {
#define FC_OP(name, operands, body) map_code_##name,
#define FC_FUNCTION FC_OP
#include "fastconv/map/map.def"
#undef FC_OP
#undef FC_FUNCTION
};

typedef void (*NarrowOp)(const void* x, const void* z, void* y, int64_t count);

template <class T, class R, class Body>
FC_INLINE void narrow_each(const void* x, const void* z, void* y, int64_t count, Body body) {
    const T *px = static_cast<const T*>(x), *pz = static_cast<const T*>(z);
    R* py = static_cast<R*>(y);
    for (int64_t i = 0; i < count; ++i) py[i] = static_cast<R>(body(px[i], pz[i]));
}

// Of unsigned bytes (truths among them) and int32: sums and products wrap round.
#define FC_NARROWS(NARROW, TRUTH)                                               \
    NARROW(add, static_cast<uint32_t>(x) + static_cast<uint32_t>(z))            \
    NARROW(sub, static_cast<uint32_t>(x) - static_cast<uint32_t>(z))            \
    NARROW(mul, static_cast<uint32_t>(x) * static_cast<uint32_t>(z))            \
    NARROW(maximum, x > z ? x : z)                                              \
    NARROW(minimum, x < z ? x : z)                                              \
    NARROW(bitwise_and, x & z)                                                  \
    NARROW(bitwise_or, x | z)                                                   \
    NARROW(bitwise_xor, x ^ z)                                                  \
    TRUTH(eq, x == z)                                                           \
    TRUTH(ne, x != z)                                                           \
    TRUTH(lt, x < z)                                                            \
    TRUTH(le, x <= z)                                                           \
    TRUTH(gt, x > z)                                                            \
    TRUTH(ge, x >= z)                                                           \
    TRUTH(logical_and, (x != 0) & (z != 0))                                     \
    TRUTH(logical_or, (x != 0) | (z != 0))                                      \
    TRUTH(logical_xor, (x != 0) ^ (z != 0))                                     \
    TRUTH(logical_not, x == 0)

#define FC_NARROW(name, result, body)                                                                             \
    template <class T>                                                                                            \
    void narrow_op_##name(const void* px, const void* pz, void* py, int64_t count) {                              \
        narrow_each<T, result>(px, pz, py, count, [](T x, T z) { (void)x, (void)z; return body; });               \
    }
#define FC_SAME(name, body) FC_NARROW(name, T, body)
#define FC_TRUTH(name, body) FC_NARROW(name, uint8_t, body)
FC_NARROWS(FC_SAME, FC_TRUTH)
#undef FC_SAME
#undef FC_TRUTH

// The function of an instruction over elements of `element`; null where there is none.
FC_NOINLINE NarrowOp narrow_op(int op, int64_t element) {
    switch (op) {
#define FC_CASE(name, body) case map_code_##name: return element == FC_INT32 ? narrow_op_##name<int32_t> : narrow_op_##name<uint8_t>;
        FC_NARROWS(FC_CASE, FC_CASE)
#undef FC_CASE
        case map_code_fmax: return narrow_op(map_code_maximum, element);
        case map_code_fmin: return narrow_op(map_code_minimum, element);
        default: return nullptr;
    }
}

}  // namespace
}  // namespace
#endif
