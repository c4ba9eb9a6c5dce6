// The convolution family.
#include "fastconv/conv.inl.h"
#include "fastconv/conv_few.inl.h"
#include "fastconv/conv_backward_weight.inl.h"
#include "fastconv/linear.inl.h"
#include "fastconv/fma_peak.inl.h"
#include "fastconv/bandwidth.inl.h"
