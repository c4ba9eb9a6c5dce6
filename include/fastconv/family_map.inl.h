// The map family: programs of elementwise instructions.
#include "fastconv/args_map.h"
#include "fastconv/map.inl.h"
#include "fastconv/map_integers.inl.h"
