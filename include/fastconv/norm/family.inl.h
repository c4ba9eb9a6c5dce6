// The norm family: batch normalisation, normalisation of rows.
#include "fastconv/norm/args.h"
#include "fastconv/norm/norm.inl.h"
#include "fastconv/norm/backward.inl.h"
#include "fastconv/norm/row_norm.inl.h"
