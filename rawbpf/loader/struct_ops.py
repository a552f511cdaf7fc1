"""Tables of functions that an object defines: from the object's struct to the kernel's, and registered with it.

The two structs have the name in common, and members by theirs: what the kernel has more is zero, and what
it has not must be. Each program becomes one for the member that it stands at.

Source: tools/lib/bpf/libbpf.c:bpf_map__init_kern_struct_ops, bpf_object_adjust_struct_ops_autoload (v6.12).
"""

from __future__ import annotations

from rawbpf.btf.core_compare import essential_name
from rawbpf.btf.layout import size_of, strip
from rawbpf.btf.types import FuncProto, Ptr, Struct
from rawbpf.errors import SpecError
from rawbpf.link.struct_ops import attach_struct_ops
from rawbpf.map.struct_ops import find_table
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.btf.types import Member, Type
    from rawbpf.link.base import Link
    from rawbpf.loader.object import Object
    from rawbpf.map.module import Modules
    from rawbpf.map.struct_ops import StructOpsMap
    from rawbpf.program.program import Program
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.syscall.protocol import Backend


def fit_tables(backend: Backend, content: ObjectData, modules: Modules) -> None:
    """Make the tables of `content` what the kernel or one of its `modules` takes, and their programs those of members.

    Of a table that is made, programs are loaded; those that no such table has a member for are not.
    Raises: SpecError for a member that the kernel lacks, or has otherwise; BpfError (ENOENT: no such table).
    """
    wanted: set[str] = set()
    for spec in content.maps.values():
        if spec.map_type == c.BPF_MAP_TYPE_STRUCT_OPS and spec.autocreate:
            _Fitting(backend, spec, content.programs, modules).fit()
            wanted.update(spec.programs.values())
    for name, program in content.programs.items():
        if program.prog_type == c.BPF_PROG_TYPE_STRUCT_OPS:
            program.autoload = name in wanted or (program.autoload and bool(program.attach_btf_id))


def table_types(content: ObjectData, modules: Modules) -> dict[str, int]:
    """Return the descriptor of the types that have its table, for each program of a table that `fit_tables` has fitted.

    It is 0 for a table of the kernel itself.
    """
    return {
        program: modules.fd_of(spec.value.btf)
        for spec in content.maps.values()
        if spec.map_type == c.BPF_MAP_TYPE_STRUCT_OPS and spec.value is not None
        for program in spec.programs.values()
    }


def require_members(chosen: list[ProgramSpec]) -> None:
    """Refuse programs of `chosen` that are for no table. Raises: SpecError."""
    for program in chosen:
        if program.prog_type == c.BPF_PROG_TYPE_STRUCT_OPS and not program.attach_btf_id:
            raise SpecError(
                f"program {program.name!r} is loaded for a member of a table, and no table that is made has it: "
                'name it in a variable of SEC(".struct_ops.link"), or set its attach_btf_id and expected_attach_type'
            )


class _Fitting:
    # One table on its way from the object's struct to the kernel's.

    def __init__(self, backend: Backend, spec: MapSpec, programs: dict[str, ProgramSpec], modules: Modules) -> None:
        if not isinstance(spec.value, Struct):
            raise SpecError(f'map {spec.name!r}: a struct_ops map is a variable in SEC(".struct_ops.link")')
        self.spec = spec
        self.local = spec.value
        self.programs = programs
        self.value = find_table(backend, essential_name(spec.value.name), modules)
        data = self.value.members[-1]
        table = strip(data.type)
        assert isinstance(table, Struct)
        self.table = table
        self.start = data.bit_offset // 8
        self.contents = bytearray(self.value.size)
        self.kept: dict[str, str] = {}

    def fit(self) -> None:
        spec = self.spec
        theirs: dict[str, tuple[int, Member]] = {}
        for index, member in enumerate(self.table.members):
            theirs.setdefault(member.name, (index, member))
        names = [member.name for member in self.local.members]
        for name in spec.programs:
            if name not in names:
                raise SpecError(f"table {spec.name!r} has no member {name!r}; it has {', '.join(names)}")
        for member in self.local.members:
            found = theirs.get(member.name)
            if found is not None:
                self._member(member, *found)
            elif member.name in spec.programs:
                out = f"del spec.maps[{spec.name!r}].programs[{member.name!r}]"
                raise self._error(member, f"is a program, and this kernel has no such member: leave it out ({out})")
            elif any(self._bytes(member)):
                raise self._error(member, "is not zero, and this kernel has no such member")
        spec.value, spec.value_type_id, spec.value_size = self.value, 0, self.value.size
        spec.contents, spec.programs = self.contents, self.kept

    def _member(self, member: Member, index: int, theirs: Member) -> None:
        if member.bit_size or theirs.bit_size:
            raise self._error(member, "is a bit-field, which cannot be copied")
        own, other = strip(member.type), strip(theirs.type)
        if own.kind != other.kind:
            raise self._error(member, f"is a {own.kind_name}, and in this kernel a {other.kind_name}")
        content = self._bytes(member)
        if isinstance(own, Ptr):
            if any(content):
                raise self._error(
                    member, f"is a pointer, and those are set by spec.maps[{self.spec.name!r}].programs only"
                )
            if member.name in self.spec.programs:
                self._function(member, index, other)
            return
        if len(content) != size_of(theirs.type):
            raise self._error(member, f"has {len(content)} bytes, and in this kernel {size_of(theirs.type)}")
        at = self.start + theirs.bit_offset // 8
        self.contents[at : at + len(content)] = content

    def _function(self, member: Member, index: int, pointer: Type) -> None:
        name = self.spec.programs[member.name]
        program = self.programs.get(name)
        if program is None or program.prog_type != c.BPF_PROG_TYPE_STRUCT_OPS:
            raise self._error(member, f"is {name!r}, which is no program of type struct_ops of this object")
        if not isinstance(pointer, Ptr) or not isinstance(strip(pointer.type), FuncProto):
            raise self._error(member, "is a program, and in this kernel no function")
        place = self.table.id, index
        if not program.attach_btf_id:
            program.attach_btf_id, program.expected_attach_type = place
        elif (program.attach_btf_id, program.expected_attach_type) != place:
            raise self._error(member, f"is program {name!r}, which is loaded for another table or member already")
        self.kept[member.name] = name

    def _bytes(self, member: Member) -> bytes:
        return self.spec.read(member.bit_offset // 8, size_of(member.type))

    def _error(self, member: Member, what: str) -> SpecError:
        return SpecError(f"table {self.spec.name!r} ({self.table.name}): {member.name!r} {what}")


class Table:
    """A table of a loaded object: how it is filled and registered. `links`: who owns what that gives, if anybody."""

    def __init__(self, map: StructOpsMap, spec: MapSpec, programs: dict[str, Program], links: list[Link]) -> None:
        self.map = map
        self.links: list[Link] | None = links
        self.programs = programs
        self._contents = bytes(spec.contents or b"")
        self._places: dict[str, int] = {}
        assert isinstance(spec.value, Struct)
        data = spec.value.members[-1]
        table = strip(data.type)
        assert isinstance(table, Struct)
        for member in table.members:
            if member.name in programs:
                self._places[member.name] = (data.bit_offset + member.bit_offset) // 8

    def attach(self) -> Link:
        """Fill and register it; documented as `StructOpsMap.attach`."""
        value = bytearray(self._contents)
        order = self.map._handle.backend.host.byteorder
        for name, program in self.programs.items():
            at = self._places[name]
            value[at : at + 8] = program.fileno().to_bytes(8, order)
        made = attach_struct_ops(self.map, bytes(value))
        if self.links is not None:
            self.links.append(made)
        return made


def add_tables(obj: Object, content: ObjectData) -> None:
    """Tell `obj`, which has its maps and programs, how its tables are registered.

    Raises: SpecError for a table with a program that was not loaded.
    """
    for name, spec in content.maps.items():
        if spec.map_type != c.BPF_MAP_TYPE_STRUCT_OPS or not spec.autocreate:
            continue
        for member, program in spec.programs.items():
            if program not in obj.programs:
                raise SpecError(f"table {name!r}: {member!r} is program {program!r}, which is not loaded")
        members = {member: obj.programs[program] for member, program in spec.programs.items()}
        obj.add_table(name, Table(obj.maps[name], spec, members, obj._links))
