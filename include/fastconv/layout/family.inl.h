// The layout family: weight packing, padding.
#include "fastconv/conv/args.h"
#include "fastconv/layout/args_pad.h"
#include "fastconv/layout/pack.inl.h"
#include "fastconv/layout/pad.inl.h"
