"""libbpf as a second opinion on object files: a driver in C, objects of others, and the comparison."""
