"""What the arguments of a map to be made have to be, found out before the kernel is asked.

Only what no kernel accepts is refused here, and what would take more memory than there is; what
differs between kernels is theirs to say, in the words of `syscall.rule`.
"""

from __future__ import annotations

from rawbpf.errors import BpfError
from rawbpf.syscall import footprint, rule
from rawbpf.syscall import map as command
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

_ENOMEM = 12
# Below this nobody looks how much memory there is.
_AFFORDABLE = 64 << 20


def number_of(map_type: str | int) -> int:
    """Return the number of a map type, which may be a name. Raises: TypeError; ValueError for an unknown one."""
    if isinstance(map_type, str):
        return map_type_number(map_type)
    if isinstance(map_type, bool) or not isinstance(map_type, int):
        raise TypeError(f"map_type={map_type!r}: expected a name such as 'hash', or the kernel's number")
    return map_type


def check_number(what: str, value: object, bits: int, meaning: str = "") -> None:
    """Refuse a `value` of the argument `what` that is no unsigned int of `bits`; None says nothing."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what}={value!r}: expected an int{meaning}")
    if not 0 <= value < 1 << bits:
        raise OverflowError(f"{what}={value!r}: expected an int in 0..{(1 << bits) - 1}{meaning}")


def check_fields(backend: Backend, fields: command.CreateFields) -> None:
    """Refuse what no kernel accepts (ValueError), and what would take more memory than there is (BpfError, ENOMEM).

    The kernel may well try the latter, and then the machine ends processes to find the memory.
    """
    values = numbers_of(fields)
    subject = command.description(
        fields.get("name", b""),
        fields["map_type"],
        fields["key_size"],
        fields["value_size"],
        fields.get("max_entries", 0),
    )
    if broken := rule.impossible(values):
        raise ValueError(f"{subject}: {'; '.join(broken)}")
    size = footprint.memory_at_once(backend.host, values)
    if size <= _AFFORDABLE:
        return
    available = backend.host.memory_available
    if available is not None and size > available:
        lazily = values | {"map_flags": fields["map_flags"] | c.BPF_F_NO_PREALLOC}
        lazy = footprint.can_be_lazy(values) and footprint.memory_at_once(backend.host, lazily) <= available
        hint = (
            f"the map would take about {footprint.amount(size)} of kernel memory at once, and the machine has "
            f"{footprint.amount(available)} available; lower max_entries"
            f"{', or allocate as it fills (BPF_F_NO_PREALLOC)' if lazy else ''}"
        )
        raise BpfError(
            _ENOMEM, call="map_create", cmd=c.BPF_MAP_CREATE, subject=subject, hint=hint, backend=backend.name
        )


def numbers_of(fields: command.CreateFields) -> dict[str, int | bytes]:
    """Return those of `fields` that are numbers."""
    return {name: value for name, value in fields.items() if isinstance(value, int)}


def checked_name(name: str) -> bytes:
    """Return the name as the kernel takes it. Raises: TypeError; ValueError for characters that it refuses."""
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: expected text, at most {c.BPF_OBJ_NAME_LEN - 1} of A-Z a-z 0-9 _ and .")
    # The kernel's EINVAL would name no reason.
    allowed = name.replace("_", "").replace(".", "")
    if len(name) >= c.BPF_OBJ_NAME_LEN or (allowed and not (allowed.isascii() and allowed.isalnum())):
        raise ValueError(f"name {name!r}: at most {c.BPF_OBJ_NAME_LEN - 1} of A-Z a-z 0-9 _ and .")
    return name.encode()
