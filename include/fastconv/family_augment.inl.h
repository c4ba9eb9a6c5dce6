// The family of augmentation.
#include "fastconv/args_augment.h"
#include "fastconv/augment_image.inl.h"
#include "fastconv/augment_warp.inl.h"
#include "fastconv/augment_color.inl.h"
#include "fastconv/augment_filter.inl.h"
#include "fastconv/augment.inl.h"
