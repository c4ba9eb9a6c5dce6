// Convolution by Fourier transforms.
#include "fastconv/args_fft.h"
#include "fastconv/fft_backward_weight.inl.h"
