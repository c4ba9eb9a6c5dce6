// The norm family: batch normalisation.
#include "fastconv/args_norm.h"
#include "fastconv/norm.inl.h"
#include "fastconv/norm_backward.inl.h"
