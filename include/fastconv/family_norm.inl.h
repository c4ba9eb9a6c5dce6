// The norm family: batch normalisation, normalisation of rows.
#include "fastconv/args_norm.h"
#include "fastconv/norm.inl.h"
#include "fastconv/norm_backward.inl.h"
#include "fastconv/row_norm.inl.h"
