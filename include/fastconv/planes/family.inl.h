// The planes family: float32 as bfloat16 planes, on AMX tiles and on vectors.
#include "fastconv/planes/args.h"
#include "fastconv/conv/args_peak.h"
#include "fastconv/planes/planes.inl.h"
#include "fastconv/planes/direct.inl.h"
#include "fastconv/planes/amx.inl.h"
#include "fastconv/planes/weight.inl.h"
