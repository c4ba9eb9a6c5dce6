// The update family: update rules, clipping, accumulation.
#include "fastconv/args_update.h"
#include "fastconv/update.inl.h"
