"""Floor 2, above the graph: from its nodes to steps, the memory they use, and programs bound to it."""
