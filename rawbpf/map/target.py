"""Where XDP programs send packets: a device or a CPU and, in values of 8 bytes, a program that runs there.

The program goes in as an open object and is read back as its id. What the number before it means, and
why the kernel may refuse it, say `devmap` and `cpumap`.
Kernel side: include/uapi/linux/bpf.h:struct bpf_devmap_val, struct bpf_cpumap_val (v6.12).
"""

from __future__ import annotations

from rawbpf.codec import codec_for
from rawbpf.codec.base import NATIVE, Codec, refuse
from rawbpf.codec.descriptor import ProgId, descriptor_of
from rawbpf.codec.record import record_class
from rawbpf.errors import BpfError
from rawbpf.map.slot import ReadableSlotMap
from rawbpf.syscall import opener
from rawbpf.syscall.descriptor import require_kind
from rawbpf.uapi.constants import BPF_PROG_TYPE_XDP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from typing_extensions import TypeVar

    from rawbpf.codec import Description
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.codec.record import Record
    from rawbpf.syscall.opener import AnyProgram

    K = TypeVar("K", default=Any)


class TargetCodec(Codec["Record"]):
    """A number, or a pair of it and a program; reads back as a record of the number and the program's id."""

    size = alignment = 4
    # The struct, and the number in it, as C calls them.
    _struct: ClassVar[str]
    _field: ClassVar[str]

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = self._struct
        self._record = record_class(self._struct, (self._field, "prog_id"))

    @property
    def label(self) -> str:
        """What stands for the whole value in messages."""
        return "value"

    def number(self, value: object, where: str) -> int:
        """Return the number that `value` stands for; messages open with `where`."""
        raise NotImplementedError

    def encode(self, value: object, where: str) -> bytes:
        """Return the bytes of a number, or of a pair of it and an open program or None; messages open with `where`."""
        program: object = None
        if isinstance(value, tuple):
            if len(value) != 2:
                raise refuse(where, f"{self._field}, or a pair of it and a program", value)
            value, program = value
        packed = self.number(value, where).to_bytes(4, NATIVE)
        if program is None:
            return packed.ljust(self.size, b"\0")
        if self.size == 4:
            raise TypeError(f"{where}: the values of this map have no room for a program: create it with value=8")
        fd = descriptor_of(program, "a program", where)
        if not fd:
            # Source: kernel/bpf/devmap.c:__dev_map_alloc_node (v6.12)
            raise ValueError(f"{where}: to the kernel descriptor 0 is no program: open it by another, as by dup()")
        return packed + fd.to_bytes(4, NATIVE)

    def decode(self, raw: bytes) -> Record:
        """Return the number and the id of the program, None where there is none."""
        prog_id = int.from_bytes(raw[4:], NATIVE)
        return self._record(int.from_bytes(raw[:4], NATIVE), ProgId(prog_id) if prog_id else None)


class TargetMap(ReadableSlotMap["K", "Record"]):
    """A map of devices or CPUs that XDP programs send packets to, a dict of those slots that hold one."""

    __slots__ = ()

    _codec: ClassVar[type[TargetCodec]]
    # What the programs of such a map are loaded for.
    _word: ClassVar[str]

    @classmethod
    def _value_codec(cls, described: Description | None, word: str) -> Codec[Any]:
        # C calls it u32, int, struct bpf_devmap_val: how long it is says all.
        size = codec_for(cls._default_value if described is None else described).size
        if size not in (4, 8):
            raise ValueError(f"value={described!r}: values of a {word} are 4 bytes, or 8 with room for a program")
        return cls._codec(size)

    def open(self, key: K) -> AnyProgram:
        """Return the program under `key` as an open `Program`.

        Raises: KeyNotFound; IndexOutOfRange; ValueError where packets pass no program; PermissionDenied
        (EPERM: needs CAP_SYS_ADMIN).
        """
        return self._opened(key, self._open_program)

    def _open_program(self, held: Record) -> AnyProgram:
        if held.prog_id is None:
            raise ValueError(f"{self._shape}: {held!r} has no program")
        return opener.open_program(self._handle.backend, held.prog_id)

    def _why_program(self, program: HasFileno) -> str:
        # What is wrong with the program of a pair that was refused.
        from rawbpf.syscall.program_words import wrong_type

        backend = self._handle.backend
        try:
            require_kind(backend, program.fileno(), "program")
        except BpfError as error:
            return error.hint
        return wrong_type(backend, program.fileno(), (BPF_PROG_TYPE_XDP,)) or (
            f'programs in a {self._word} are loaded for one: Program.load("xdp/{self._word}", ...), '
            f'SEC("xdp/{self._word}"); and all are for fragments (xdp.frags/{self._word}), or none is'
        )
