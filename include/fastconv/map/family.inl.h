// The map family: programs of elementwise instructions.
#include "fastconv/map/args.h"
#include "fastconv/map/map.inl.h"
#include "fastconv/map/integers.inl.h"
