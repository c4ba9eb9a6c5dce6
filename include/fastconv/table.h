// The kernel table: one array of FcKernel per family and ISA, filled by one translation unit each.
#ifndef FASTCONV_TABLE_H
#define FASTCONV_TABLE_H

#include "fastconv/kernels.def"
#include "fastconv/step.h"

enum FcKernelId {
#define FC_X(name, Args) FC_ID_##name,
    FC_KERNELS(FC_X)
#undef FC_X
    FC_KERNEL_COUNT
};

// One family at one ISA: `count` kernels, the first of which has the id `first`.
typedef struct FcKernelTable {
    int first;
    int count;
    const FcKernel* kernels;
} FcKernelTable;

#endif
