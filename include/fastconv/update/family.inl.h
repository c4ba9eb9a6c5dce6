// The update family: update rules, clipping, accumulation.
#include "fastconv/update/args.h"
#include "fastconv/simd/math.inl.h"
#include "fastconv/update/update.inl.h"
#include "fastconv/update/program.inl.h"
