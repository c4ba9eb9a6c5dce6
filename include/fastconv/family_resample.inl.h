// The family of resampling and of sampling by coordinates.
#include "fastconv/args_resample.h"
#include "fastconv/resample.inl.h"
#include "fastconv/sample.inl.h"
#include "fastconv/roi.inl.h"
