// The loss family: softmax over channels, cross entropy, squared error.
#include "fastconv/loss/args.h"
#include "fastconv/loss/loss.inl.h"
