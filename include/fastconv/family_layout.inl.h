// The layout family: the door, weight packing, padding.
#include "fastconv/args.h"
#include "fastconv/args_pad.h"
#include "fastconv/layout.inl.h"
#include "fastconv/pack.inl.h"
#include "fastconv/pad.inl.h"
