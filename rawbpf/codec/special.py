"""What the kernel keeps in a value for itself: locks, timers, work, lists, trees and pointers to its own objects.

It finds them by the names of their types in BTF, shows zeros in their place, and keeps its own when
user space stores a value. A record therefore has no field for them.
Source: kernel/bpf/btf.c:btf_get_field_type, include/linux/bpf.h:copy_map_value (v6.12)
"""

from __future__ import annotations

from rawbpf.codec.text import BytesCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import Codec

NAMED = {"bpf_spin_lock": (4, 4), "bpf_timer": (16, 8), "bpf_wq": (16, 8)}
"""The size and alignment of those that go by a name in descriptions. Source: include/uapi/linux/bpf.h (v6.12)"""

STRUCTS = frozenset(
    {
        *NAMED,
        "bpf_res_spin_lock",
        "bpf_list_head",
        "bpf_list_node",
        "bpf_rb_root",
        "bpf_rb_node",
        "bpf_refcount",
        "bpf_task_work",
    }
)
POINTERS = frozenset({"kptr", "kptr_untrusted", "percpu_kptr"})
"""The tags that make a pointer the kernel's. One tagged `uptr` is user space's to set."""


class SpecialCodec(BytesCodec):
    """A field that is the kernel's own: it takes no value. Where it is not in a struct, its bytes are shown."""

    special = True

    def __init__(self, name: str, size: int, alignment: int) -> None:
        super().__init__(size, name)
        self.alignment = alignment

    def explain(self) -> str:
        """Return the size, and whose it is."""
        return f"{super().explain()}, kept by the kernel"

    def build(self, builder: Builder) -> int:
        """Add the struct of that name, which is what the kernel looks for."""
        if self.name == "bpf_spin_lock":
            return builder.struct(self.name, self.size, [("val", builder.int("unsigned int", 4), 0)])
        words = builder.array(builder.int("unsigned long long", 8), self.size // 8)
        return builder.struct(self.name, self.size, [("__opaque", words, 0)])


def holds_special(codec: Codec[object]) -> bool:
    """Return whether the kernel keeps something for itself anywhere in the values of `codec`."""
    if codec.special or getattr(codec, "hidden", None):
        return True
    inside = [field.codec for field in getattr(codec, "fields", None) or ()]
    inside += [found for name in ("inner", "element") if (found := getattr(codec, name, None)) is not None]
    return any(map(holds_special, inside))
