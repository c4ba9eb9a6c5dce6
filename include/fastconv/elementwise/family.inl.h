// The elementwise family: arithmetic with broadcasting, dropout.
#include "fastconv/elementwise/args.h"
#include "fastconv/elementwise/elementwise.inl.h"
#include "fastconv/elementwise/sums.inl.h"
#include "fastconv/simd/random.inl.h"
