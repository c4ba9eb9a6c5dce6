// The kernel table: one array of FcKernel per family and ISA, filled by one translation unit each.
#ifndef FASTCONV_TABLE_H
#define FASTCONV_TABLE_H

#include "fastconv/kernels.def"
#include "fastconv/step.h"

// One family at one ISA: its kernels, in the order of kernels.def.
typedef struct FcKernelTable {
    int count;
    const FcKernel* kernels;
} FcKernelTable;

#endif
