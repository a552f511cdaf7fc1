"""System calls: the backend protocol, the kernel behind it, and one typed function per bpf command."""
