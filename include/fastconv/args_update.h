// The argument structures of the update family: parameters and their gradients as flat arrays.
#ifndef FASTCONV_ARGS_UPDATE_H
#define FASTCONV_ARGS_UPDATE_H

#include <stdint.h>

#define FC_ITEM_TILE 8192  // values per tile of an item

// What a schedule may change between two runs; steps hold its address.
typedef struct FcHyper {
    double lr, momentum, dampening, nesterov, weight_decay;
    double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt;
    double first;       // not 0: this run sets the momentum buffer, or the accumulator, instead of adding to it
    double grad_scale;  // multiplies the gradient
    double max_norm;    // read by clip_norm
    double clip_value;  // read by clip_value
    double total_norm;  // written by clip_norm
} FcHyper;

// One flat array of `count` floats and what goes with it, element by element; a kernel uses what it needs.
typedef struct FcItem {
    float* p;             // parameter, accumulator, or what is set to zero
    float* g;             // gradient
    float *s0, *s1;       // state: momentum buffer; averages of the gradient and of its square
    int64_t count;
    const FcHyper* hyper;
    int64_t tile;         // the first tile of this item
} FcItem;

typedef struct ItemsArgs {
    int64_t n;
    const FcItem* items;
    int64_t count;        // items
    int64_t tiles;        // of all items together
    double* part;         // square_sum: one sum per tile
} ItemsArgs;

typedef struct ClipNormArgs {
    int64_t n;
    const double* part;
    int64_t parts;
    FcHyper** hypers;       // the first gives max_norm; all get grad_scale and total_norm
    int64_t count;
} ClipNormArgs;

#endif
