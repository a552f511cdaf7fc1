"""A map that is found again by its pin, on a simulated kernel or on the real one."""

import rawbpf


# [start:pins]
def test_a_count_is_found_again(bpf_pins):
    with rawbpf.HashMap.create(key="u32", value="u64", max_entries=4) as m:
        m[1000] = 1
        m.pin(bpf_pins / "counts")
    with rawbpf.Map.from_pin(bpf_pins / "counts", key="u32", value="u64") as m:
        assert m[1000] == 1


# [end:pins]
