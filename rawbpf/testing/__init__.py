"""Tests of map-handling code, and of the kernels that it runs on."""
