"""What fuzzing found stays refused or read, and the fuzzer's own changes of objects and types surprise no reader."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from fuzz import targets
from fuzz.mutators import mutate
from fuzz.parts import join, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.btf_samples import sample
from support.elf_writer import ElfWriter
from support.objects import BPF, OBJECTS

pytestmark = pytest.mark.needs("module:elftools")

OBJECT_FILES = [path.read_bytes() for path in sorted([*BPF.glob("*.o"), *OBJECTS.glob("*.o")])]
TYPES = [sample("little")[0], sample("big")[0]]


def maps_without_a_symbol() -> bytes:
    elf = ElfWriter()
    elf.section("maps", bytes(20))
    return elf.build()


FOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "maps without a symbol": ("elf", maps_without_a_symbol),
}


@pytest.mark.parametrize(("target", "content"), FOUND.values(), ids=FOUND)
def test_what_was_found_is_found_no_more(target: str, content: Callable[[], bytes]) -> None:
    targets.TARGETS[target][0](content())


def test_an_input_is_split_into_the_files_that_it_was_joined_of_and_whatever_it_says_into_all_its_bytes() -> None:
    files = [b"one", b"", b"three"]
    assert split(join(files), 3) == files
    damaged = b"\xff" * 8 + b"onethree"
    assert split(damaged, 3) == [b"onethree", b"", b""]


def changed(rng: random.Random) -> Callable[[bytes, int], bytes]:
    """Return what changes bytes at random, as the fuzzer's engine does."""

    def change(content: bytes, most: int) -> bytes:
        at = rng.randrange(len(content) + 1)
        return (content[:at] + rng.randbytes(rng.randrange(4)) + content[at + rng.randrange(4) :])[:most]

    return change


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from([*targets.TARGETS]), seed=st.integers(0, 1 << 32))
def test_no_change_that_leaves_most_in_order_surprises_a_reader(name: str, seed: int) -> None:
    # Invariant: each target returns, whatever was changed.
    rng = random.Random(seed)
    run, count = targets.TARGETS[name]
    kinds = {"btf": [TYPES] * 3, "relocate": [OBJECT_FILES, TYPES]}.get(name, [OBJECT_FILES] * count)
    files = [rng.choice(kind) for kind in kinds]
    chosen = rng.randrange(count)
    files[chosen] = mutate(files[chosen], 1 << 16, rng, changed(rng))
    run(join(files))
