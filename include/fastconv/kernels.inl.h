// One family of kernels at one instruction set: the whole of a translation unit. It is compiled once per pair, with that
// set's flags and -DFC_ISA=<set> -DFC_FAMILY=<family> -DFC_BODY="fastconv/<family>/family.inl.h"; the object exports a single
// symbol, fastconv_<isa>_<family>. See examples/cpp for a build without Python.
#ifndef FASTCONV_KERNELS_INL_H
#define FASTCONV_KERNELS_INL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "fastconv/table.h"

#define FC_CAT_(a, b, c, d) a##b##c##d
#define FC_CAT(a, b, c, d) FC_CAT_(a, b, c, d)
#define FC_CAT2_(a, b) a##b
#define FC_CAT2(a, b) FC_CAT2_(a, b)

#include "fastconv/simd/vec.inl.h"
#include FC_BODY

namespace FC_CAT2(fc_, FC_ISA) {
namespace {
#define FC_X(name, Args)                                                                                \
    {#name, [](void* a, int64_t n) -> int64_t {                                                        \
         static_cast<Args*>(a)->n = n;                                                                 \
         return name##_tiles(static_cast<const Args*>(a));                                             \
     },                                                                                                \
     [](const void* a, int64_t b, int64_t e, void* s) { name##_run(static_cast<const Args*>(a), b, e, s); }, \
     [](const void* a) -> size_t { return name##_scratch(static_cast<const Args*>(a)); }},
const FcKernel table[] = {FC_CAT2(FC_KERNELS_, FC_FAMILY)(FC_X)};
#undef FC_X
}  // namespace
}  // namespace

extern "C" {
extern const FcKernelTable FC_CAT(fastconv_, FC_ISA, _, FC_FAMILY);
const FcKernelTable FC_CAT(fastconv_, FC_ISA, _, FC_FAMILY) = {
    sizeof(FC_CAT2(fc_, FC_ISA)::table) / sizeof(FcKernel), FC_CAT2(fc_, FC_ISA)::table};
}

#endif
