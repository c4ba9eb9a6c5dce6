// The im2col family: panels of unfolded pixels, the matrix product for where there is no BLAS, and its epilogue.
#include "fastconv/conv/args.h"
#include "fastconv/im2col/args.h"
#include "fastconv/im2col/im2col.inl.h"
#include "fastconv/im2col/unfold.inl.h"
#include "fastconv/im2col/gemm.inl.h"
