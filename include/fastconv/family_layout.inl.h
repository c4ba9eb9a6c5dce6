// The layout family: the door, weight packing, padding.
#include "fastconv/layout.inl.h"
#include "fastconv/pack.inl.h"
#include "fastconv/pad.inl.h"
