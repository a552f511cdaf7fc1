"""Runs the tests marked `guest` under other Linux kernels, in QEMU: what `tox -e kernels` calls."""
