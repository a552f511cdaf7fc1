"""BTF that was loaded: its bytes and types, and what a map's key and value types must be like.

Source: kernel/bpf/btf.c, kernel/bpf/syscall.c:map_check_btf (v6.12).
"""

from __future__ import annotations

from errno import EINVAL

from rawbpf.btf.btf import Btf
from rawbpf.errors import FormatError
from rawbpf.sim.error import Refused
from rawbpf.sim.kernel import Identified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.map.base import SimMap
    from rawbpf.sim.map.field import Fields


class LoadedBtf(Identified):
    """One BTF object. Raises: Refused (EINVAL) for bytes that are no BTF."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        try:
            self.types = Btf(content)
        except FormatError:
            raise Refused(EINVAL) from None

    def check_map(self, target: SimMap, key_type_id: int, value_type_id: int) -> Fields | None:
        """Check that the types fit the map; return the fields of its value that are the kernel's."""
        target.check_btf(self, key_type_id, value_type_id)
        return None
