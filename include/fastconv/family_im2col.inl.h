// The im2col family: panels of unfolded pixels, the matrix product for where there is no BLAS, and its epilogue.
#include "fastconv/args.h"
#include "fastconv/args_im2col.h"
#include "fastconv/im2col.inl.h"
#include "fastconv/unfold.inl.h"
#include "fastconv/gemm.inl.h"
