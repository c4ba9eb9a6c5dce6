// The norm family: batch normalisation, that of groups of channels, normalisation of rows.
#include "fastconv/norm/args.h"
#include "fastconv/norm/norm.inl.h"
#include "fastconv/norm/backward.inl.h"
#include "fastconv/norm/groups.inl.h"
#include "fastconv/norm/row_norm.inl.h"
