// The rows family: depthwise convolutions whose lanes run along the row.
#include "fastconv/depthwise/args.h"
#include "fastconv/rows/depthwise_rows.inl.h"
