// The depthwise family.
#include "fastconv/depthwise/args.h"
#include "fastconv/depthwise/forward.inl.h"
#include "fastconv/depthwise/transposed.inl.h"
#include "fastconv/depthwise/backward_weight.inl.h"
