"""Numbers that users wrote into a specification: refused by name before they reach a system call.

Which numbers make sense is the kernel's to say.
"""

from __future__ import annotations

from rawbpf.codec.base import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTIONAL = ("numa_node", "expected_attach_type")


def check_numbers(where: str, spec: object, bits: Mapping[str, int]) -> None:
    """Return if each attribute of `spec` that `bits` names is an int of so many bits; None stands for the default.

    `where`: how messages begin, such as `map 'events'`. Raises: TypeError, OverflowError.
    """
    for field, width in bits.items():
        value = getattr(spec, field)
        if value is None and field in _OPTIONAL:
            continue
        if not hasattr(type(value), "__index__"):
            raise refuse(f"{where}: {field}", "an int", value)
        if not 0 <= value < 1 << width:
            raise OverflowError(f"{where}: {field}: {value} does not fit {width} bits")
