// The arguments of `map`: a program of elementwise instructions over operands of any strides.
#ifndef FASTCONV_ARGS_MAP_H
#define FASTCONV_ARGS_MAP_H

#include <stdint.h>

#include "fastconv/dtypes.h"
#include "fastconv/elementwise/args.h"

enum { FC_MAP_RANK = 8 };

// What an operand's elements may be beside an FcDtype; all are float32 inside `map`, int64 inside `i64_map`: uniform numbers of
// [0, 1), whose strides count numbers.
enum { FC_RANDOM = FC_BOOL + 1 };

enum FcFold { FC_NO_FOLD, FC_FOLD_SUM, FC_FOLD_MAX, FC_FOLD_MIN };

typedef struct FcOperand {
    void* data;             // element 0; FC_RANDOM: an FcRandomState
    int64_t element;        // an FcDtype, or FC_RANDOM
    int64_t stream;         // FC_RANDOM: tells apart what draws from one state, 0 .. 65535
    int64_t direct;         // of an output: whether its instruction may write there, as no later one reads an input
    int64_t strides[FC_MAP_RANK];  // in elements; 0 repeats
} FcOperand;

// register[to] = op(register[of[0]], ...); op is a place in map/map.def.
typedef struct FcInstruction {
    int32_t op, to, of[3];
    int32_t chain;  // how many instructions from this one on take each what the one before made, which nobody else reads; or 0
    int32_t slot;   // and which operand of this one that is, of those behind the first
} FcInstruction;

// Registers are numbered: inputs, constants, values of which the first `outputs` are the results.
typedef struct ProgramArgs {
    int64_t n;
    const FcOperand* operands;  // inputs, then outputs
    const FcInstruction* code;
    const float* constants;
    int64_t inputs, outputs, instructions, constant_count, values;
    int64_t batched;        // whether the first extent is that of one image, to be multiplied by the batch
    int64_t rank;           // 1 .. FC_MAP_RANK
    int64_t extents[FC_MAP_RANK];
    int64_t block;          // elements that registers are wanted to hold
    int64_t turned;         // not 0: blocks are squares of the last two dimensions, for an operand that lies turned
    int64_t fold;           // an FcFold: what becomes of each row of a block of the result, [row][block across] at the output
    const int64_t* integers;  // of i64_map: its constants
    int64_t narrow;         // of i64_map: the FcDtype of all inputs, runs of which its one instruction takes as they lie; or 0
    int64_t* zero;          // of i64_map: not null: becomes 1 where a divisor is 0
} ProgramArgs;

#endif
