// The reduce family: reductions over any axes, scans along one.
#include "fastconv/reduce/args_scan.h"
#include "fastconv/reduce/reduce.inl.h"
#include "fastconv/reduce/integers.inl.h"
#include "fastconv/reduce/scan.inl.h"
