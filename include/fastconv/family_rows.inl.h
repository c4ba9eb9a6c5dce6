// The rows family: depthwise convolutions whose lanes run along the row.
#include "fastconv/args_depthwise.h"
#include "fastconv/depthwise_rows.inl.h"
