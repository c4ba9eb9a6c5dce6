from fastconv.kernels._runtime cimport Step


cpdef Step many(list steps)
