# The matrix product of the im2col path: the BLAS that NumPy has loaded, or our own kernel.
from libc.stdint cimport int64_t

from fastconv.kernels._runtime cimport FcKernel


cdef struct Gemm:
    void* sgemm              # cblas_sgemm, or null: `own` is used
    bint wide                # its integers have 64 bits
    const FcKernel* own
    # Thread limits that a library keeps per thread are set by the thread that calls it; see blas.pyx.
    int (*get_local)() noexcept nogil
    int (*set_local)(int) noexcept nogil
    bint set_returns_old


cdef const Gemm* find_gemm() except NULL
cdef size_t gemm_scratch(const Gemm* gemm) noexcept nogil
cdef int enter_thread(const Gemm* gemm) noexcept nogil
cdef void leave_thread(const Gemm* gemm, int state) noexcept nogil
cdef void gemm_run(const Gemm* gemm, bint trans_a, bint trans_b, int64_t m, int64_t n, int64_t k, const float* a,
                   int64_t lda, const float* b, int64_t ldb, bint accumulate, float* c, int64_t ldc,
                   void* scratch) noexcept nogil
