// The argument structures of the update family: parameters and their gradients as flat arrays.
#ifndef FASTCONV_ARGS_UPDATE_H
#define FASTCONV_ARGS_UPDATE_H

#include <stdint.h>

#define FC_ITEM_TILE 8192  // values per tile of an item
#define FC_SCALARS 16      // of a rule's own
#define FC_STATES 4        // buffers per parameter
#define FC_TEMPORARIES 3   // of a program

// What a schedule may change between two runs; steps hold its address. Doubles alone: programs find them by number.
typedef struct FcHyper {
    double lr, momentum, dampening, nesterov, weight_decay;
    double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt;
    double first;       // not 0: this run sets the momentum buffer, or the accumulator, instead of adding to it
    double grad_scale;  // multiplies the gradient
    double sign;        // multiplies it, too: -1 maximises
    double max_norm;    // read by clip_norm
    double clip_value;  // read by clip_value
    double total_norm;  // written by clip_norm
    double ratio;       // written by norm_ratio, or a constant of the parameter
    double k[FC_SCALARS];  // the rule's own, in its order
} FcHyper;

// What a program does to a block of values: one instruction. `d`, `a`, `b` are registers: 0 the parameter, 1 the gradient, then
// FC_STATES buffers, then FC_TEMPORARIES; `k`, `j` numbers of doubles in FcHyper.
enum FcInstruction {
    FC_WHEN,     // goes on behind the next d instructions where k is 0 (a = 0), or where it is not (a = 1)
    FC_GRADIENT, // d = a * (grad_scale * sign)
    FC_SCALE,    // d = k * a
    FC_AXPY,     // d = a + k * b
    FC_LERP,     // d = a + k * (b - a)
    FC_MUL,      // d = a * b
    FC_DIV,      // d = a / b
    FC_ADDCMUL,  // d = j * d + k * a * b
    FC_ADDCDIV,  // d = d + k * (a / b)
    FC_ROOT,     // d = sqrt(a) / j + k
    FC_SHIFT,    // d = a + k
    FC_MAX,      // d = max(a, b), NaN where one is
    FC_ABS,      // d = |a|
    FC_SIGN,     // d = 1, -1 or what a is (0, NaN)
    FC_CHOOSE,   // d = k where a > 0, j where a < 0, 1 where a = 0, NaN else
    FC_CLAMP,    // d = a within [k, j], NaN where a is
    FC_KEEP,     // d = 0 where a < 0, else b
    FC_FILL      // d = k
};

typedef struct FcOp {
    int32_t op, d, a, b, k, j;
} FcOp;

// One flat array of `count` floats and what goes with it, element by element; a kernel uses what it needs.
typedef struct FcItem {
    float* p;             // parameter, accumulator, or what is set to zero
    float* g;             // gradient
    float *s0, *s1, *s2, *s3;  // state: momentum buffer; averages of the gradient and of its square; ...
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
    const FcOp* ops;      // program
    int64_t op_count;
} ItemsArgs;

typedef struct ClipNormArgs {
    int64_t n;
    const double* part;
    int64_t parts;
    FcHyper** hypers;       // the first gives max_norm; all get grad_scale and total_norm
    int64_t count;
} ClipNormArgs;

// ratio = factor * |w| / (|u| + decay * |w| + eps), 1 where |w| or |u| is 0; without sums for w: factor / (|u| + eps).
typedef struct FcRatio {
    const double *w, *u;    // sums of squares by tile
    int64_t w_parts, u_parts;
    FcHyper** hypers;       // all get the ratio
    int64_t count;
} FcRatio;

typedef struct RatioArgs {
    int64_t n;
    const FcRatio* ratios;
    int64_t count;
    int64_t factor, decay, eps;  // numbers of doubles in FcHyper
    int64_t scaled;              // not 0: |u| is of gradients, and counts times grad_scale
} RatioArgs;

#endif
