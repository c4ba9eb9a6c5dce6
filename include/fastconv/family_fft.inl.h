// Convolution by Fourier transforms.
#include "fastconv/fft_backward_weight.inl.h"
