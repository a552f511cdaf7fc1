"""Making maps: from arguments, with a small BTF of their own, and from a specification of an object file.

Kernel side: kernel/bpf/syscall.c:map_create, map_check_btf (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.errors import BpfError, FormatError, SpecError
from rawbpf.map.base import Map, Shape
from rawbpf.map.check import check_fields, check_number, checked_name, number_of, numbers_of
from rawbpf.map.handle import Handle
from rawbpf.map.types import map_class
from rawbpf.syscall import btf as btf_command
from rawbpf.syscall import footprint
from rawbpf.syscall import map as command
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import descriptor_number
from rawbpf.uapi import constants as c
from rawbpf.uapi.names import map_type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rawbpf.btf.build import Builder
    from rawbpf.btf.types import Type
    from rawbpf.codec import Codec, Description
    from rawbpf.map.constructors import Token
    from rawbpf.spec.map import MapSpec
    from rawbpf.syscall.protocol import Backend

_EINVAL = 22


def create(
    map_type: str | int,
    /,
    *,
    key: Description | None = None,
    value: Description | None = None,
    max_entries: int | None = None,
    name: str = "",
    flags: int | None = None,
    map_extra: int = 0,
    numa_node: int | None = None,
    inner: Map[Any, Any] | None = None,
    pin: str | os.PathLike[str] | None = None,
    token: Token | None = None,
    backend: Backend | None = None,
) -> Map[Any, Any]:
    """Create a map; documented as `Map.create`."""
    backend = backend or current()
    number = number_of(map_type)
    family, word = map_class(number), map_type_name(number)
    implied: command.CreateFields
    value, implied = family._resolved(backend, value, word)
    codec: tuple[Codec[Any], Codec[Any]] = family._codecs(key, value, word)
    key_codec, value_codec = codec
    if inner is not None and not isinstance(inner, Map):
        raise TypeError(f"inner={inner!r}: expected an open map, like those to be held")
    given = implied | _given(number, codec, max_entries, flags or 0, map_extra, numa_node)
    given["inner_map_fd"] = 0 if inner is None else inner.fileno()
    given["name"] = checked_name(name)
    given["token_fd"] = 0 if token is None else descriptor_number(token, "token=")
    fields: command.CreateFields = family._completed(backend, given, word)
    check_fields(backend, fields)
    template = _template(backend, given["inner_map_fd"])
    plain = _is_plain(fields, flags) and pin is None
    carries = family._carries_btf(key_codec)
    btf_fd = _load_btf(backend, fields, key_codec, value_codec) if carries else 0
    try:
        fd = _create(backend, fields, mappable=plain)
    except BpfError as error:
        _explain(error, template)
        raise
    finally:
        if btf_fd:
            backend.close(btf_fd)
    try:
        made = open_map(backend, fd, _shape_of(fields, name), key_codec, value_codec)
    except BaseException:
        backend.close(fd)
        raise
    made._shape.template = template
    if pin is not None:
        try:
            made.pin(pin)
        except BaseException:
            made.close()
            raise
    return made


def estimate(
    map_type: str | int,
    /,
    *,
    key: Description | None,
    value: Description | None,
    max_entries: int | None,
    flags: int | None,
    map_extra: int,
    backend: Backend | None,
) -> int:
    """Documented as `Map.estimate_memory`."""
    backend = backend or current()
    number = number_of(map_type)
    family, word = map_class(number), map_type_name(number)
    implied: command.CreateFields
    value, implied = family._resolved(backend, value, word)
    given = implied | _given(number, family._codecs(key, value, word), max_entries, flags or 0, map_extra, None)
    fields: command.CreateFields = family._completed(backend, given, word)
    if _is_plain(fields, flags):
        fields["map_flags"] = c.BPF_F_MMAPABLE
    return footprint.memory(backend.host, numbers_of(fields))


def _given(
    number: int,
    codec: tuple[Codec[Any], Codec[Any]],
    max_entries: int | None,
    flags: int,
    map_extra: int,
    numa_node: int | None,
) -> command.CreateFields:
    check_number("max_entries", max_entries, 32, ", how many elements the map can hold")
    check_number("flags", flags, 32, " of BPF_F_ bits")
    check_number("map_extra", map_extra, 64)
    check_number("numa_node", numa_node, 32)
    given: command.CreateFields = {
        "map_type": number,
        "key_size": codec[0].size,
        "value_size": codec[1].size,
        "map_flags": flags,
        "map_extra": map_extra,
    }
    if max_entries is not None:
        given["max_entries"] = max_entries
    if numa_node is not None:
        given["numa_node"] = numa_node
    return given


def _is_plain(fields: command.CreateFields, flags: int | None) -> bool:
    # An array of which nobody said how it shall be made.
    return fields["map_type"] == c.BPF_MAP_TYPE_ARRAY and flags is None and not fields["map_flags"]


def _create(backend: Backend, fields: command.CreateFields, *, mappable: bool) -> int:
    if mappable:
        try:
            fd = command.map_create(backend, **fields | {"map_flags": c.BPF_F_MMAPABLE})
        except BpfError as error:
            if error.errno != _EINVAL:  # before Linux 5.5
                raise
        else:
            fields["map_flags"] = c.BPF_F_MMAPABLE
            return fd
    return command.map_create(backend, **fields)


def _template(backend: Backend, inner_fd: int) -> Shape | None:
    # As the kernel has it, which adds flags of its own.
    if not inner_fd:
        return None
    from rawbpf.map.info import read_shape

    return read_shape(backend, inner_fd)


def _explain(error: BpfError, template: Shape | None) -> None:
    # The rules of `syscall.rule` see the number of the template's descriptor, and not what that is of.
    if template is not None:
        from rawbpf.map.map_in_map import not_a_template

        error.hint = not_a_template(error, template) or error.hint


def _shape_of(fields: command.CreateFields, name: str) -> Shape:
    return Shape(
        fields["map_type"],
        fields["key_size"],
        fields["value_size"],
        fields["max_entries"],
        fields["map_flags"],
        name,
    )


def create_from_spec(
    backend: Backend, spec: MapSpec, *, name: str, btf_fd: int = 0, inner_fd: int = 0, token: int | None = None
) -> Map[Any, Any]:
    """Create the map that `spec` describes, called `name` in the kernel.

    `btf_fd` is the object's BTF, of which `spec` has type ids (0: none); `inner_fd` the template of a
    map of maps. Of a struct_ops map the value's type is the kernel's own, or with `btf_fd` that of a module.

    Raises: as `Map.create`.
    """
    family = map_class(spec.map_type)
    try:
        kernel_name = checked_name(name)
    except ValueError as error:
        raise SpecError(f"map {spec.name!r}: {error}") from None
    fields = fields_of(backend, spec) | {"name": kernel_name, "inner_map_fd": inner_fd, "token_fd": token or 0}
    # A data section has no type of keys, only of its one value; so have types without keys.
    typed = spec.value_type_id and (spec.key_type_id or spec.is_data or not spec.key_size)
    fits = _type_of(spec.key, spec.key_size) is spec.key and _type_of(spec.value, spec.value_size) is spec.value
    if typed and fits and btf_fd and family._carries_btf(codecs_of_spec(spec)[0]):
        fields["btf_fd"] = btf_fd
        fields["btf_key_type_id"], fields["btf_value_type_id"] = spec.key_type_id, spec.value_type_id
    own_btf = 0
    if spec.map_type == c.BPF_MAP_TYPE_STRUCT_OPS and spec.value is not None:
        fields["btf_vmlinux_value_type_id"], fields["value_type_btf_obj_fd"] = spec.value.id, btf_fd
        own_btf = _load_btf(backend, fields, *codecs_of_spec(spec))
    template = _template(backend, inner_fd)
    try:
        check_fields(backend, fields)
        fd = command.map_create(backend, **fields)
    except ValueError as error:
        raise SpecError(f"map {error}") from None
    except BpfError as error:
        _explain(error, template)
        raise
    finally:
        if own_btf:
            backend.close(own_btf)
    made = open_as_spec(backend, fd, spec)
    made._shape.template = template
    return made


def fields_of(backend: Backend, spec: MapSpec) -> command.CreateFields:
    """Return the fields of MAP_CREATE for `spec`, with the type's fix-ups, but for names and descriptors."""
    given: command.CreateFields = {
        "map_type": spec.map_type,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "map_flags": spec.map_flags,
        "map_extra": spec.map_extra,
    }
    if spec.numa_node is not None:
        given["numa_node"] = spec.numa_node
    completed: command.CreateFields = map_class(spec.map_type)._completed(backend, given, map_type_name(spec.map_type))
    return completed


def open_as_spec(backend: Backend, fd: int, spec: MapSpec) -> Map[Any, Any]:
    """Return the object for the map behind `fd`, which becomes its own, with the types that `spec` gives it."""
    try:
        key, value = codecs_of_spec(spec)
        return open_map(backend, fd, _shape_of(fields_of(backend, spec), spec.name), key, value)
    except BaseException:
        backend.close(fd)
        raise


def codecs_of_spec(spec: MapSpec) -> tuple[Codec[Any], Codec[Any]]:
    """Return the codecs of the map that `spec` asks for; of one CPU's value where there is one per CPU.

    Raises: FormatError for damaged types; SpecError for types that maps of its type cannot have.
    """
    key_type = value_type = None
    if not spec.is_data:
        key_type, value_type = _type_of(spec.key, spec.key_size), _type_of(spec.value, spec.value_size)
    try:
        return codecs_of_sizes(spec.map_type, spec.key_size, spec.value_size, key_type, value_type)
    except (FormatError, SpecError):
        raise
    except ValueError as error:
        raise SpecError(f"map {spec.name!r}: {error}") from None


def codecs_of_sizes(
    map_type: int, key_size: int, value_size: int, key: Type | None, value: Type | None
) -> tuple[Codec[Any], Codec[Any]]:
    """Return the codecs of a map that exists: of its types where it has them, else of its sizes.

    Types of other sizes than the map's are ignored: bytes are the honest answer.
    """
    family, word = map_class(map_type), map_type_name(map_type)
    described: tuple[Codec[Any], Codec[Any]]
    described = family._codecs(key_size if key is None else key, value_size if value is None else value, word)
    if (described[0].size, described[1].size) != (key_size, value_size):
        key = key if described[0].size == key_size else None
        value = value if described[1].size == value_size else None
        described = family._codecs(key_size if key is None else key, value_size if value is None else value, word)
    return described


def _type_of(described: Type | None, size: int) -> Type | None:
    # A size that was edited is no longer the type's: the map then holds bytes.
    if described is None:
        return None
    from rawbpf.btf.layout import size_of

    return described if size_of(described) == size else None


def open_map(backend: Backend, fd: int, shape: Shape, key: Codec[Any], value: Codec[Any]) -> Map[Any, Any]:
    """Return the object for the map behind `fd`, which becomes its own; `value` is the codec of one CPU's value.

    Raises: SpecError where the codecs are of other sizes than the map's. `fd` then stays the caller's.
    """
    # The kernel reads and writes the map's sizes, whatever the buffers have.
    if (key.size, value.size) != (shape.key_size, shape.value_size):
        sizes = f"{shape.key_size} and {shape.value_size} bytes"
        types = f"{key.name} has {key.size} and {value.name} {value.size}"
        raise SpecError(f"map {shape}: its keys and values have {sizes}, but their types do not: {types}")
    family: type[Map[Any, Any]] = map_class(shape.map_type)
    if family._per_cpu:
        from rawbpf.codec.percpu import PerCpuCodec

        value = PerCpuCodec(value, backend.host.possible_cpus)
    return family._open(Handle(backend, fd), shape, key, value)


def _load_btf(backend: Backend, fields: command.CreateFields, key: Codec[Any], value: Codec[Any]) -> int:
    # Returns the descriptor of what it put into `fields`, or 0 where there are no types to tell.
    from rawbpf.btf.build import Builder
    from rawbpf.codec import codec_for

    builder = Builder(backend.host.byteorder)
    if "btf_vmlinux_value_type_id" in fields:
        # The type is the kernel's own, and there must be a BTF that does not say so.
        builder.int("unsigned int", 4)
        fields["btf_fd"] = btf_command.btf_load(backend, builder.to_bytes(), token_fd=fields["token_fd"])
        return fields["btf_fd"]
    found = _try_btf(backend, fields, key, value, builder)
    if found is None and map_class(fields["map_type"])._needs_btf:
        # The size is what the kernel needs to know: bytes have one without a kind that is newer than itself.
        found = _try_btf(backend, fields, key, codec_for(value.size), Builder(backend.host.byteorder), must=True)
    # Elsewhere types for others to see are a courtesy; a map without them works as well.
    return found or 0


def _try_btf(
    backend: Backend,
    fields: command.CreateFields,
    key: Codec[Any],
    value: Codec[Any],
    builder: Builder,
    *,
    must: bool = False,
) -> int | None:
    # As `_load_btf`; None where the kernel refuses the BTF.
    # A type without keys has a value's type alone.
    key_id, value_id = key.add_to(builder) if key.size else 0, value.add_to(builder)
    if not value_id or (key.size and not key_id):
        return 0
    try:
        fd = btf_command.btf_load(backend, builder.to_bytes(), token_fd=fields["token_fd"])
    except BpfError:
        if must:
            raise
        return None
    fields["btf_fd"], fields["btf_key_type_id"], fields["btf_value_type_id"] = fd, key_id, value_id
    return fd
