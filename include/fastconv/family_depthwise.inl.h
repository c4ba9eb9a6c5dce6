// The depthwise family.
#include "fastconv/args_depthwise.h"
#include "fastconv/depthwise_forward.inl.h"
#include "fastconv/depthwise_transposed.inl.h"
#include "fastconv/depthwise_backward_weight.inl.h"
