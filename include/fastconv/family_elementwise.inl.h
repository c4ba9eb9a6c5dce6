// The elementwise family: activations, arithmetic with broadcasting, dropout.
#include "fastconv/args_elementwise.h"
#include "fastconv/elementwise.inl.h"
#include "fastconv/sums.inl.h"
#include "fastconv/random.inl.h"
