// The select family: sorting, searching, suppression of overlapping boxes.
#include "fastconv/args_select.h"
#include "fastconv/search.inl.h"
#include "fastconv/sort.inl.h"
#include "fastconv/nms.inl.h"
