// The planes family: float32 as bfloat16 planes, on AMX tiles and on vectors.
#include "fastconv/args_planes.h"
#include "fastconv/args_peak.h"
#include "fastconv/planes.inl.h"
#include "fastconv/planes_direct.inl.h"
#include "fastconv/planes_amx.inl.h"
#include "fastconv/planes_weight.inl.h"
