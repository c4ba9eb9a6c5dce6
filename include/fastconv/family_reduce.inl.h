// The reduce family: reductions over any axes, scans along one.
#include "fastconv/args_reduce.h"
#include "fastconv/reduce.inl.h"
