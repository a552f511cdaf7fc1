"""What a kernel of a given release has: the simulator refuses the rest, as such a kernel does.

Source: uapi/since.py, and the commits named here.
"""

from __future__ import annotations

from rawbpf.uapi import since
from rawbpf.uapi.names import cmd_name, map_type_name, prog_type_name

_NEWEST = (6, 18)


class Release:
    """The features of Linux `text`, such as "5.10" or "5.10.0-32-amd64"; of the newest known where it is None."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text or "6.18.0"
        self.version = _numbers(self.text)

    def has_command(self, number: int) -> bool:
        """Whether this kernel has the command."""
        return self.reached(since.COMMANDS.get(cmd_name(number)))

    def has_map_type(self, number: int) -> bool:
        """Whether this kernel has the map type."""
        return self.reached(since.MAP_TYPES.get(map_type_name(number)))

    def has_prog_type(self, number: int) -> bool:
        """Whether this kernel has the program type."""
        return self.reached(since.PROG_TYPES.get(prog_type_name(number)))

    def can_lookup_and_delete(self, map_type: int) -> bool:
        """Whether this kernel has LOOKUP_AND_DELETE_ELEM for a type that has it today."""
        return True

    def has_batch(self, map_type: int) -> bool:
        """Whether this kernel has the batch commands for a type that has them today."""
        return True

    @property
    def last_btf_kind(self) -> int:
        """The last kind of BTF type that this kernel knows."""
        return 19

    @property
    def has_flagged_tags(self) -> bool:
        """Whether decl tags and type tags may be attributes (kind_flag)."""
        return True

    @property
    def has_signed_enums(self) -> bool:
        """Whether an enum may say that it is signed (kind_flag)."""
        return True

    @property
    def special_fields(self) -> int:
        """The kinds of field of a value that this kernel knows for its own."""
        return 0x3FFF

    @property
    def checks_structs(self) -> bool:
        """Whether BTF_LOAD looks for such fields in every struct."""
        return True

    @property
    def attr_size(self) -> int:
        """Bytes of this kernel's `union bpf_attr`."""
        return 168

    def reached(self, release: str | None) -> bool:
        """Whether this kernel is not older than `release`; None is every kernel."""
        return release is None or _numbers(release) <= self.version


def _numbers(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = rest.split(".")[0].split("-")[0]
    try:
        return int(major), int(minor)
    except ValueError:
        raise ValueError(f"release {release!r}: two numbers are expected, such as '5.10' or '6.12.3'") from None
