// The copy family: whatever moves elements between two arrangements in memory, the doors included.
#include "fastconv/args_copy.h"
#include "fastconv/copy.inl.h"
#include "fastconv/doors.inl.h"
