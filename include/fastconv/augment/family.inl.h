// The family of augmentation.
#include "fastconv/augment/args.h"
#include "fastconv/augment/image.inl.h"
#include "fastconv/augment/move.inl.h"
#include "fastconv/augment/warp.inl.h"
#include "fastconv/augment/color.inl.h"
#include "fastconv/augment/filter.inl.h"
#include "fastconv/augment/augment.inl.h"
