// The gather family: elements found by integer indices, and their adjoint.
#include "fastconv/args_gather.h"
#include "fastconv/gather.inl.h"
