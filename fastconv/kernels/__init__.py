"""Floor 1: the OpenMP loops around the SIMD kernels. Knows nothing of graphs."""
