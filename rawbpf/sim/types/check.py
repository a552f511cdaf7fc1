"""What several map types ask of the type of a key."""

from __future__ import annotations

from errno import EINVAL

from rawbpf.sim.error import Refused
from rawbpf.sim.types.record import INT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.types.record import Record


def check_index_type(key: Record) -> None:
    """Check that `key` is an int of 32 bits. Raises: Refused (EINVAL). Source: btf_type_is_i32 (v6.18)."""
    if key.kind != INT or key.int_bits != 32 or key.int_offset:
        raise Refused(EINVAL)
