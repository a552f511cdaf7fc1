"""What the kernel makes of BTF: its records, the checks at BTF_LOAD, and the fields of map values that are its own.

Written from the kernel's rules alone: `rawbpf.btf` is one of the things that this judges.
"""
