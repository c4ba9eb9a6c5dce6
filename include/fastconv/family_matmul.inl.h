// The matrix products.
#include "fastconv/args_matmul.h"
#include "fastconv/matmul.inl.h"
