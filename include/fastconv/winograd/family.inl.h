// The Winograd family: 3x3 and 3-tap convolution of stride 1 with fewer multiplications.
#include "fastconv/winograd/args.h"
#include "fastconv/winograd/winograd.inl.h"
#include "fastconv/winograd/backward_weight.inl.h"
#include "fastconv/winograd/weight.inl.h"
