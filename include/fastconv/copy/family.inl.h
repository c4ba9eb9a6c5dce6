// The copy family: whatever moves elements between two arrangements in memory, the doors included.
#include "fastconv/copy/args.h"
#include "fastconv/copy/copy.inl.h"
#include "fastconv/copy/doors.inl.h"
