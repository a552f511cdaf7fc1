"""Types one by one as they lie in BTF, in the form of `bpftool btf dump` without a format.

Source: tools/bpf/bpftool/btf.c:dump_btf_type (v6.12)
"""

from __future__ import annotations

from rawbpf.btf.types import (
    Array,
    Composite,
    Datasec,
    DeclTag,
    Enum,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Reference,
    Type,
    Var,
)


def raw_lines(type: Type) -> list[str]:
    """Return the line of `type`, and one for each of its parts.

    Raises: FormatError when the type is broken.
    """
    head = f"[{type.id}] {type.kind_name.upper()} '{type.name or '(anon)'}'"
    if isinstance(type, Int):
        words = [word for word, yes in (("SIGNED", type.signed), ("CHAR", type.is_char), ("BOOL", type.is_bool)) if yes]
        encoding = words[0] if words else "(none)"
        return [f"{head} size={type.size} bits_offset={type.offset} nr_bits={type.bits} encoding={encoding}"]
    if isinstance(type, Array):
        return [f"{head} type_id={type.type.id} index_type_id={type.index_type.id} nr_elems={type.length}"]
    if isinstance(type, Composite):
        lines = [f"{head} size={type.size} vlen={len(type.members)}"]
        for name, own, offset, bits in type.members:
            width = f" bitfield_size={bits}" if bits else ""
            lines.append(f"\t'{name or '(anon)'}' type_id={own.id} bits_offset={offset}{width}")
        return lines
    if isinstance(type, Enum):
        sign = "SIGNED" if type.signed else "UNSIGNED"
        lines = [f"{head} encoding={sign} size={type.size} vlen={len(type.values)}"]
        suffix = "" if type.kind_name == "enum" else ("LL" if type.signed else "ULL")
        return lines + [f"\t'{name}' val={value}{suffix}" for name, value in type.values]
    if isinstance(type, Fwd):
        return [f"{head} fwd_kind={'union' if type.is_union else 'struct'}"]
    if isinstance(type, Func):
        return [f"{head} type_id={type.type.id} linkage={type.linkage}"]
    if isinstance(type, FuncProto):
        params = [f"\t'{name or '(anon)'}' type_id={own.id}" for name, own in type.params]
        params += ["\t'(anon)' type_id=0"] * type.variadic
        return [f"{head} ret_type_id={type.return_type.id} vlen={len(params)}", *params]
    if isinstance(type, Var):
        return [f"{head} type_id={type.type.id}, linkage={type.linkage}"]
    if isinstance(type, Datasec):
        lines = [f"{head} size={type.size} vlen={len(type.variables)}"]
        return lines + [
            f"\ttype_id={var.id} offset={offset} size={size} ({var.kind_name.upper()} '{var.name}')"
            for var, offset, size in type.variables
        ]
    if isinstance(type, Float):
        return [f"{head} size={type.size}"]
    if isinstance(type, DeclTag):
        return [f"{head} type_id={type.type.id} component_idx={type.component_index}"]
    return [f"{head} type_id={type.type.id}" if isinstance(type, Reference) else head]
