// The gather family: elements found by integer indices, and their adjoint.
#include "fastconv/gather/args.h"
#include "fastconv/gather/gather.inl.h"
