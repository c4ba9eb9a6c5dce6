// The arguments of many problems in one step.
#ifndef FASTCONV_ARGS_MANY_H
#define FASTCONV_ARGS_MANY_H

#include <stdint.h>

#include "fastconv/step.h"

// `count` steps that do not depend on one another, such as the phases of a transposed convolution.
typedef struct ManyArgs {
    int64_t n;
    const FcStep* steps;
    int64_t* ends;          // tiles of the steps up to and including each; written by tiles()
    int64_t count;
} ManyArgs;

#endif
