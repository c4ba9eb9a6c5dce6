// Convolution by Fourier transforms.
#include "fastconv/fft/args.h"
#include "fastconv/fft/backward_weight.inl.h"
