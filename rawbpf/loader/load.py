"""From a specification to the kernel: BTF, then maps with their contents, then programs that refer to them.

Whatever fails, everything that was made until then is closed again.
Kernel side: kernel/bpf/syscall.c:bpf_prog_load, kernel/bpf/verifier.c:resolve_pseudo_ldimm64 (v6.12).
"""

from __future__ import annotations

from rawbpf.codec.base import refuse
from rawbpf.errors import SpecError
from rawbpf.link.deferral import DeferredSignals
from rawbpf.loader.debug_info import load_types
from rawbpf.loader.maps import fill_slots, make_maps, unpin_made
from rawbpf.loader.object import Object
from rawbpf.loader.programs import load_programs
from rawbpf.loader.relocate import relocate_types, targets
from rawbpf.loader.struct_ops import add_tables, fit_tables, require_members
from rawbpf.map.module import Modules
from rawbpf.spec.map import KCONFIG
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


def load(
    content: ObjectData,
    *,
    only: Iterable[str] | None,
    maps: Mapping[str, Map[Any, Any]] | None,
    pin_dir: str | os.PathLike[str] | None,
    target_btf: Btf | Iterable[Btf] | None,
    log_level: int,
    log_size: int | None,
    token: Token | None,
    backend: Backend | None,
) -> Object:
    """Load `content`, which is the caller's to lose; documented as `ObjectSpec.load`."""
    backend = backend or current()
    if not hasattr(backend, "bpf_blocking") or not hasattr(backend, "host"):
        raise refuse("backend=", "a kernel, such as rawbpf.sim.Simulator()", backend)
    if log_size is not None and not isinstance(log_size, int):
        raise refuse("log_size=", "an int or None", log_size)
    if content.byteorder != backend.host.byteorder:
        machine = backend.host.byteorder
        target = {"little": "bpfel", "big": "bpfeb"}[machine]
        raise SpecError(
            f"{content.name} is {content.byteorder}-endian and this machine is not: compile it with -target {target}"
        )
    modules = Modules(backend)
    fit_tables(backend, content, modules)
    chosen = _choose(content, only)
    require_members(chosen)
    core = relocate_types(content, chosen, targets(backend, modules, target_btf))
    token_fd = None if token is None else descriptor_number(token, "token=")
    if KCONFIG in content.maps and not (maps and KCONFIG in maps):
        from rawbpf.loader.kconfig import fill_config

        fill_config(backend, content)
    obj = Object(content.name, backend)
    btf_fd = 0
    try:
        with DeferredSignals():
            btf_fd, describes_code = load_types(backend, content, token_fd)
            make_maps(
                obj,
                content,
                replacements={} if maps is None else maps,
                pin_dir=pin_dir,
                modules=modules,
                btf_fd=btf_fd,
                token=token_fd,
            )
        load_programs(
            obj,
            content,
            chosen,
            core=core,
            modules=modules,
            btf_fd=btf_fd if describes_code else 0,
            log_level=log_level,
            log_size=log_size,
            token=token_fd,
        )
        fill_slots(obj, content)
        add_tables(obj, content)
    except BaseException:
        with DeferredSignals():
            unpin_made(obj)
            obj.close()
        raise
    finally:
        with DeferredSignals():
            modules.close()
            if btf_fd:
                backend.close(btf_fd)
    return obj


def _choose(content: ObjectData, only: Iterable[str] | None) -> list[ProgramSpec]:
    if only is None:
        return [program for program in content.programs.values() if program.autoload]
    if not hasattr(only, "__iter__"):
        raise refuse("only=", "names of programs", only)
    names = list(only)
    if isinstance(only, str) or not all(name in content.programs for name in names):
        raise SpecError(f"only={only!r}: programs of {content.name} are {', '.join(content.programs) or 'none'}")
    return [content.programs[name] for name in names]
