"""From a specification to the kernel: BTF, then maps with their contents, then programs that refer to them.

Whatever fails, everything that was made until then is closed again.
Kernel side: kernel/bpf/syscall.c:bpf_prog_load, kernel/bpf/verifier.c:resolve_pseudo_ldimm64 (v6.12).
"""

from __future__ import annotations

from rawbpf.errors import BpfError, NotSupported, SpecError
from rawbpf.loader.maps import fill_slots, make_maps, unpin_made
from rawbpf.loader.object import Object
from rawbpf.loader.programs import load_programs
from rawbpf.loader.struct_ops import add_tables, fit_tables, require_members
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.current import current
from rawbpf.syscall.descriptor import descriptor_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rawbpf.btf import Btf
    from rawbpf.map.base import Map
    from rawbpf.map.constructors import Token
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.syscall.protocol import Backend

_EINVAL = 22


def load(
    content: ObjectData,
    *,
    only: Iterable[str] | None,
    maps: Mapping[str, Map[Any, Any]] | None,
    pin_dir: str | os.PathLike[str] | None,
    target_btf: Btf | None,
    log_level: int,
    log_size: int | None,
    token: Token | None,
    backend: Backend | None,
) -> Object:
    """Load `content`, which is the caller's to lose; documented as `ObjectSpec.load`."""
    backend = backend or current()
    if content.byteorder != backend.host.byteorder:
        machine = backend.host.byteorder
        target = {"little": "bpfel", "big": "bpfeb"}[machine]
        raise SpecError(
            f"{content.name} is {content.byteorder}-endian and this machine is not: compile it with -target {target}"
        )
    if target_btf is not None:
        raise NotSupported(_EINVAL, call="load", subject=content.name, hint="target_btf: only the running kernel's BTF")
    fit_tables(backend, content)
    chosen = _choose(content, only)
    require_members(chosen)
    token_fd = None if token is None else descriptor_number(token, "token=")
    obj = Object(content.name, backend)
    btf_fd = 0
    try:
        btf_fd = _load_btf(backend, content, token_fd)
        make_maps(
            obj, content, replacements={} if maps is None else maps, pin_dir=pin_dir, btf_fd=btf_fd, token=token_fd
        )
        load_programs(obj, content, chosen, btf_fd=btf_fd, log_level=log_level, log_size=log_size, token=token_fd)
        fill_slots(obj, content)
        add_tables(obj, content)
    except BaseException:
        unpin_made(obj)
        obj.close()
        raise
    finally:
        if btf_fd:
            backend.close(btf_fd)
    return obj


def _choose(content: ObjectData, only: Iterable[str] | None) -> list[ProgramSpec]:
    if only is None:
        return [program for program in content.programs.values() if program.autoload]
    names = list(only)
    if isinstance(only, str) or not all(name in content.programs for name in names):
        raise SpecError(f"only={only!r}: programs of {content.name} are {', '.join(content.programs) or 'none'}")
    return [content.programs[name] for name in names]


def _load_btf(backend: Backend, content: ObjectData, token: int | None) -> int:
    if not content.btf_bytes:
        return 0
    try:
        return btf_load(backend, content.btf_bytes, token_fd=token or 0, subject=content.name)
    except BpfError as error:
        # A kernel that is older than one of the kinds says EINVAL: types and lines are then left out,
        # which no program needs to run. Everything else concerns the load as a whole.
        if error.errno != _EINVAL:
            raise
        return 0
