// Compiled by setup.py once per instruction set and kernel family.
#include "fastconv/kernels.inl.h"
