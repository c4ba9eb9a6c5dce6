// The loss family: softmax over channels, cross entropy, squared error.
#include "fastconv/loss.inl.h"
