// The loss family: softmax over channels, cross entropy, squared error.
#include "fastconv/args_loss.h"
#include "fastconv/loss.inl.h"
