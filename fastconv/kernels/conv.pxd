# What other families that take a convolution's geometry need of conv.pyx.
from fastconv.kernels._args_conv cimport ConvArgs
from fastconv.kernels._runtime cimport Step


cdef int fill(Step step, ConvArgs* a, dict g) except -1
