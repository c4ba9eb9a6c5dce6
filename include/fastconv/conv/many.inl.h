// Many steps that do not depend on one another, as one: their tiles are counted through.
#ifndef FASTCONV_MANY_INL_H
#define FASTCONV_MANY_INL_H

#include "fastconv/conv/args_many.h"
#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t many_tiles(const ManyArgs* a) {
    int64_t sum = 0;
    for (int64_t i = 0; i < a->count; ++i) {
        sum += a->steps[i].kernel->tiles(a->steps[i].args, a->n);
        a->ends[i] = sum;
    }
    return sum;
}

FC_INLINE size_t many_scratch(const ManyArgs* a) {
    size_t most = 0;
    for (int64_t i = 0; i < a->count; ++i) {
        const size_t need = a->steps[i].kernel->scratch(a->steps[i].args);
        most = need > most ? need : most;
    }
    return most;
}

inline void many_run(const ManyArgs* a, int64_t begin, int64_t end, void* scratch) {
    int64_t low = 0, high = a->count;  // the first step that ends behind `begin`
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (a->ends[middle] > begin) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    for (int64_t i = low; begin < end; ++i) {
        const int64_t first = i ? a->ends[i - 1] : 0, stop = min64(end, a->ends[i]);
        if (stop > begin) a->steps[i].kernel->run(a->steps[i].args, begin - first, stop - first, scratch);
        begin = stop;
    }
}

}  // namespace
}  // namespace
#endif
