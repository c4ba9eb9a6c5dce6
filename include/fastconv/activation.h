// The activations that kernels apply to what they are about to store (simd/activation.inl.h).
#ifndef FASTCONV_ACTIVATION_H
#define FASTCONV_ACTIVATION_H

enum FcActivation { FC_ACT_NONE = 0, FC_ACT_RELU = 1, FC_ACT_CLIP = 2, FC_ACT_LEAKY = 3 };

#endif
