// The Winograd family: 3x3 and 3-tap convolution of stride 1 with fewer multiplications.
#include "fastconv/args_winograd.h"
#include "fastconv/winograd.inl.h"
#include "fastconv/winograd_backward_weight.inl.h"
#include "fastconv/winograd_weight.inl.h"
