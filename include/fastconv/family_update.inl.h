// The update family: update rules, clipping, accumulation.
#include "fastconv/update.inl.h"
