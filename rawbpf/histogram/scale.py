"""Which values a bucket holds. A bucket's index is what `bpf_log2l(value)`, or `value / step`, gives in a program.

Knows neither counts nor how they are shown.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class Log2:
    """Bucket i holds the values of i binary digits, and bucket 1 the value 0 too, as bpf_log2l() has it.

    Bucket 0 is what a program puts there that counts the digits itself: the value 0 alone.
    """

    __slots__ = ()
    name: ClassVar = "log2"
    first: ClassVar = 1
    last: ClassVar = 64
    step: ClassVar = None
    hint: ClassVar = ""

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the least and the greatest value of a bucket."""
        return (1 << index - 1 if index > 1 else 0), (1 << index) - 1

    def index(self, value: int) -> int:
        """Return the bucket of a value from 0 on."""
        return max(1, value.bit_length())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Log2)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "log2"


class Linear:
    """Bucket i holds the `step` values from i * step on."""

    __slots__ = ("step",)
    name: ClassVar = "linear"
    first: ClassVar = 0
    # As many as BCC takes: each is a line, however empty.
    last: ClassVar = 1024
    hint: ClassVar = ": greater steps reach further, and so does log2"

    def __init__(self, step: int) -> None:
        if isinstance(step, bool) or not isinstance(step, int):
            raise TypeError(f"step: expected an int, got {step!r} ({type(step).__name__})")
        if step < 1:
            raise ValueError(f"step: expected 1 or more, got {step}")
        self.step = step

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the least and the greatest value of a bucket."""
        return index * self.step, (index + 1) * self.step - 1

    def index(self, value: int) -> int:
        """Return the bucket of a value from 0 on."""
        return value // self.step

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linear) and self.step == other.step

    def __hash__(self) -> int:
        return self.step

    def __repr__(self) -> str:
        return "linear" if self.step == 1 else f"linear by {self.step}"


if TYPE_CHECKING:
    Scale = Log2 | Linear
