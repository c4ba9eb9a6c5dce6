// The reduce family: reductions over any axes, scans along one.
#include "fastconv/args_scan.h"
#include "fastconv/reduce.inl.h"
#include "fastconv/reduce_integers.inl.h"
#include "fastconv/scan.inl.h"
