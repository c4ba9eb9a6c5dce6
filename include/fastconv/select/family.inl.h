// The select family: sorting, searching, suppression of overlapping boxes.
#include "fastconv/select/args.h"
#include "fastconv/select/search.inl.h"
#include "fastconv/select/sort.inl.h"
#include "fastconv/select/nms.inl.h"
