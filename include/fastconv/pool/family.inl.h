// The pooling family.
#include "fastconv/pool/args.h"
#include "fastconv/pool/max.inl.h"
#include "fastconv/pool/positions.inl.h"
#include "fastconv/pool/avg.inl.h"
#include "fastconv/pool/backward.inl.h"
