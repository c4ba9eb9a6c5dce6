// The layout family: weight packing, padding.
#include "fastconv/args.h"
#include "fastconv/args_pad.h"
#include "fastconv/pack.inl.h"
#include "fastconv/pad.inl.h"
