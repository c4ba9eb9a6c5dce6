// The layout family: the door, weight packing, im2col and col2im.
#include "fastconv/layout.inl.h"
#include "fastconv/im2col.inl.h"
