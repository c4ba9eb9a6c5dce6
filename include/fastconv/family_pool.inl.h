// The pooling family.
#include "fastconv/args_pool.h"
#include "fastconv/pool_max.inl.h"
#include "fastconv/pool_positions.inl.h"
#include "fastconv/pool_avg.inl.h"
#include "fastconv/pool_backward.inl.h"
