// Picks, for each kernel, the highest instruction set that has it, up to a given level.
// The build says which levels were compiled: FC_HAVE_avx2 and so on.
#ifndef FASTCONV_DISPATCH_H
#define FASTCONV_DISPATCH_H

#include "fastconv/isa.h"
#include "fastconv/table.h"

// FC_ID_<kernel>, family by family; FC_FIRST_<family> is the first of a family.
enum FcKernelId {
#define FC_X(name, Args) FC_ID_##name,
#define FC_F(family) FC_FIRST_##family, FC_BEFORE_##family = FC_FIRST_##family - 1, FC_KERNELS_##family(FC_X)
    FC_ALL_FAMILIES(FC_F)
#undef FC_F
#undef FC_X
    FC_KERNEL_COUNT
};

extern "C" {
#define FC_X(family) extern const FcKernelTable fastconv_portable_##family;
FC_ALL_FAMILIES(FC_X)
#undef FC_X
#ifdef FC_HAVE_avx2
#define FC_X(family) extern const FcKernelTable fastconv_avx2_##family;
FC_ALL_FAMILIES(FC_X)
#undef FC_X
#endif
#ifdef FC_HAVE_avx512
#define FC_X(family) extern const FcKernelTable fastconv_avx512_##family;
FC_FAMILIES(FC_X)
#undef FC_X
#endif
#ifdef FC_HAVE_avx512_bf16
extern const FcKernelTable fastconv_avx512_bf16_planes;
#endif
#ifdef FC_HAVE_amx
extern const FcKernelTable fastconv_amx_planes;
#endif
}

static inline unsigned fc_compiled_isa(void) {
    unsigned have = 1u << FC_PORTABLE;
#ifdef FC_HAVE_avx2
    have |= 1u << FC_AVX2;
#endif
#ifdef FC_HAVE_avx512
    have |= 1u << FC_AVX512;
#endif
#ifdef FC_HAVE_avx512_bf16
    have |= 1u << FC_AVX512_BF16;
#endif
#ifdef FC_HAVE_amx
    have |= 1u << FC_AMX;
#endif
    return have;
}

static inline void fc_take(const FcKernelTable* table, const FcKernel** first) {
    for (int i = 0; i < table->count; ++i) first[i] = &table->kernels[i];
}

// Fills out[FC_KERNEL_COUNT]; later levels overwrite earlier ones.
static inline void fc_resolve(int level, const FcKernel** out) {
#define FC_X(family) fc_take(&fastconv_portable_##family, out + FC_FIRST_##family);
    FC_ALL_FAMILIES(FC_X)
#undef FC_X
#ifdef FC_HAVE_avx2
#define FC_X(family) \
    if (level >= FC_AVX2) fc_take(&fastconv_avx2_##family, out + FC_FIRST_##family);
    FC_ALL_FAMILIES(FC_X)
#undef FC_X
#endif
#ifdef FC_HAVE_avx512
#define FC_X(family) \
    if (level >= FC_AVX512) fc_take(&fastconv_avx512_##family, out + FC_FIRST_##family);
    FC_FAMILIES(FC_X)
#undef FC_X
#endif
#ifdef FC_HAVE_avx512_bf16
    if (level >= FC_AVX512_BF16) fc_take(&fastconv_avx512_bf16_planes, out + FC_FIRST_planes);
#endif
#ifdef FC_HAVE_amx
    if (level >= FC_AMX) fc_take(&fastconv_amx_planes, out + FC_FIRST_planes);
#endif
    (void)level;
}

#endif
