"""Bugs that are planted in the simulator, one by one, to see that the comparison of kernels and models finds them."""
