// The matrix products.
#include "fastconv/matmul/args.h"
#include "fastconv/matmul/matmul.inl.h"
