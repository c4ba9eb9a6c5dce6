// The layout family: the door, weight packing.
#include "fastconv/layout.inl.h"
