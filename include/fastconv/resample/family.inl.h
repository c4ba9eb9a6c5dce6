// The family of resampling and of sampling by coordinates.
#include "fastconv/resample/args.h"
#include "fastconv/resample/resample.inl.h"
#include "fastconv/resample/sample.inl.h"
#include "fastconv/resample/roi.inl.h"
