"""The simulated kernel's maps: one file per family, as in kernel/bpf; `types` says which class is which type."""
