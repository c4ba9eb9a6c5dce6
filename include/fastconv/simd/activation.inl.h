// Activations that kernels apply to what they are about to store.
#ifndef FASTCONV_ACTIVATION_INL_H
#define FASTCONV_ACTIVATION_INL_H

#include "fastconv/activation.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int W>
FC_INLINE Vf<W> activate(Vf<W> v, int64_t act, float a, float b) {
    if (act == FC_ACT_RELU) return vmax<W>(Vf<W>{}, v);
    if (act == FC_ACT_CLIP) {  // NaN passes through
        return vmin<W>(splat<W>(b), vmax<W>(splat<W>(a), v));
    }
    if (act == FC_ACT_LEAKY) return v > Vf<W>{} ? v : v * a;
    return v;
}

}  // namespace
}  // namespace
#endif
