// The update family: update rules, clipping, accumulation.
#include "fastconv/args_update.h"
#include "fastconv/math.inl.h"
#include "fastconv/update.inl.h"
#include "fastconv/update_program.inl.h"
