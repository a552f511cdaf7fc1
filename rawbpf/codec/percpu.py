"""Values of per-CPU maps: one for each possible CPU.

The kernel lays them side by side, each rounded up to 8 bytes. Source:
kernel/bpf/syscall.c:bpf_map_value_size, kernel/bpf/arraymap.c:bpf_percpu_array_copy (v6.12)
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812

from rawbpf.codec.base import Codec, T_co, refuse
from rawbpf.codec.scalar import ORDER, IntCodec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from rawbpf.btf.build import Builder
    from rawbpf.codec.base import Raw

    V = TypeVar("V")

_NUMBERS = frozenset({int, float})


class PerCpu(tuple[T_co, ...]):
    """One value per possible CPU; the index is the CPU's number.

    `sum()` and its like know numbers, not what they mean: times are added as counters are. For times,
    take `.max()`, the latest: `values.sum().calls` beside `values.max().last_ns`.
    """

    __slots__ = ()

    @staticmethod
    def filled(value: V) -> PerCpu[V]:
        """Return what writes `value` for every CPU, however many there are."""
        return _Filled((value,))

    def sum(self) -> T_co:
        """Return the sum over the CPUs: of records by field; of what is no number, the first CPU's."""
        combined: T_co = _combined(self, sum)
        return combined

    def min(self) -> T_co:
        """Return the least over the CPUs: of records by field; of what is no number, the first CPU's."""
        combined: T_co = _combined(self, min)
        return combined

    def max(self) -> T_co:
        """Return the greatest over the CPUs: of records by field; of what is no number, the first CPU's."""
        combined: T_co = _combined(self, max)
        return combined

    def mean(self) -> T_co | float:
        """Return the mean over the CPUs, as floats: of records by field; of what is no number, the first CPU's."""
        mean: T_co | float = _combined(self, _mean)
        return mean

    def __repr__(self) -> str:
        return f"PerCpu({list(self)!r})"


class _Filled(PerCpu[T_co]):
    __slots__ = ()

    def sum(self) -> T_co:
        raise TypeError(f"{self!r} is to be written: it does not know how many CPUs there are, so it has no sum")

    def __repr__(self) -> str:
        return f"PerCpu.filled({self[0]!r})"


class PerCpuCodec(Codec[PerCpu[T_co]]):
    """`count` values of `inner`, each at a multiple of 8 bytes. What is between them is not kept."""

    def __init__(self, inner: Codec[T_co], count: int) -> None:
        self.inner = inner
        self.count = count
        self.stride = (inner.size + 7) & -8
        self.size = count * self.stride
        self.alignment = 8
        self.hashable = inner.hashable
        self.name = f"per-CPU {inner.name}"
        self._struct = None
        if isinstance(inner, IntCodec) and inner.code and inner.known is None:
            self._struct = Struct(ORDER[inner.byteorder] + f"{inner.code}{self.stride - inner.size}x" * count)

    @property
    def label(self) -> str:
        """What stands for the inner value."""
        return self.inner.label

    def pack(self, value: object, /) -> bytes:
        """Return the bytes of a value for each CPU: a PerCpu, a sequence of as many, or `PerCpu.filled(v)`."""
        values = self.values(value, self.label)
        try:
            if self._struct:
                return self._struct.pack(*values)
            pack, gap = self.inner.pack, bytes(self.stride - self.inner.size)
            return b"".join([pack(one) + gap for one in values])
        except (StructError, TypeError, ValueError, OverflowError):
            pass
        return self.encode(value, self.label)

    def unpack(self, buffer: Raw, /) -> PerCpu[T_co]:
        """Return the values of exactly `size` bytes."""
        if len(buffer) != self.size:
            return Codec.unpack(self, buffer)
        if self._struct:
            return PerCpu(self._struct.unpack(buffer))
        unpack, size, view = self.inner.unpack, self.inner.size, memoryview(buffer)
        if not size:
            return PerCpu([unpack(b"") for _ in range(self.count)])
        return PerCpu([unpack(view[at : at + size]) for at in range(0, self.size, self.stride)])

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of `value`; messages open with `where[cpu]`."""
        values = self.values(value, where)
        return b"".join(
            self.inner.encode(one, f"{where}[{cpu}]").ljust(self.stride, b"\0") for cpu, one in enumerate(values)
        )

    def decode(self, raw: bytes) -> PerCpu[T_co]:
        """Return the values of `raw`."""
        starts = [cpu * self.stride for cpu in range(self.count)]
        return PerCpu([self.inner.decode(raw[start : start + self.inner.size]) for start in starts])

    def values(self, value: object, where: str) -> Sequence[object]:
        """Return `value` as one value per CPU. Raises TypeError, ValueError."""
        if type(value) is _Filled:
            return (value[0],) * self.count
        # A record is a tuple too, but it is the value of one CPU.
        if type(value) is not PerCpu and type(value) is not list and type(value) is not tuple:
            what = f"{self.count} values, one per possible CPU, or PerCpu.filled(value)"
            raise refuse(where or self.name, what, value)
        if len(value) != self.count:
            expected = f"expected {self.count} values, one per possible CPU"
            raise ValueError(f"{where or self.name}: {expected}, got {len(value)}")
        return value

    def __call__(self, *values: object, **named: object) -> PerCpu[T_co]:  # noqa: ARG002
        """Return the PerCpu of these values, one per CPU or all in one sequence, as it reads back."""
        value = values[0] if len(values) == 1 else values
        return self.unpack(self.pack(value))

    def build(self, builder: Builder) -> int:
        """Add the type of one value: that is what the kernel wants of a per-CPU map."""
        return self.inner.add_to(builder)

    def explain(self) -> str:
        """Return how many values there are, and what each is."""
        return f"{self.count} values, {self.stride} bytes apart, of {self.inner.explain()}"


def _combined(values: Sequence[Any], over: Callable[..., Any]) -> Any:  # noqa: ANN401  # of what the values are of
    first = values[0]
    # Not by the first one alone: of bools and enumerators that have no name some may be plain numbers.
    if _NUMBERS.issuperset(map(type, values)):
        return over(values)
    if isinstance(first, tuple):
        by_field = [_combined(column, over) for column in zip(*values, strict=True)]
        if hasattr(first, "_fields"):
            from rawbpf.codec.record import Record, clean, make

            if isinstance(first, Record):
                return make(clean(type(first)), by_field)
        return tuple(by_field)
    return first


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
