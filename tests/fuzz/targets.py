"""What is fuzzed. Whatever the bytes, each returns or raises what its readers document; anything else is a finding."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TypeVar

from support.btf_samples import walk

import rawbpf
from fuzz.parts import split
from rawbpf.btf import Btf, BtfExt, Builder
from rawbpf.btf.ctypes_text import to_python
from rawbpf.btf.extend import Extension
from rawbpf.btf.fixup import add_strings, fixup_datasecs
from rawbpf.btf.listing import raw_lines
from rawbpf.btf.merge import Merger
from rawbpf.btf.sanitize import FEATURES, sanitize
from rawbpf.cli.skeleton import skeleton
from rawbpf.codec import codec_for
from rawbpf.errors import FormatError, SpecError
from rawbpf.loader.types import ObjectTypes
from rawbpf.sim import Simulator
from rawbpf.spec.difference import differences

REFUSALS = (FormatError, SpecError)
_FEW = 40
_LARGEST = 1 << 16
T = TypeVar("T")


def _maybe(function: Callable[..., T], *arguments: object) -> T | None:
    """Return what `function` does, None where it refuses."""
    try:
        return function(*arguments)
    except REFUSALS:
        return None


def btf(content: bytes) -> None:
    """Read a BTF, one that continues it, and a .BTF.ext; look at, rewrite and write out all that is in them."""
    first, second, extension = split(content, 3)
    whole = _maybe(Btf.from_bytes, first)
    if whole is None:
        return
    halves = [whole]
    if second:
        continued = _maybe(lambda: Btf.from_bytes(second, whole))
        halves += [continued] if continued is not None else []
    for each in halves:
        _look(each)
        _maybe(lambda each=each: _records(BtfExt.from_bytes(extension, each)))
    if len(halves) > 1:
        _maybe(lambda: _look(halves[1].rebase(whole)))
        _maybe(lambda: Btf.from_bytes(Merger(halves).to_bytes()))
    rewrites: list[Callable[[], bytes]] = [
        lambda: fixup_datasecs(first, {".data": (80, {"total": 0})}),
        lambda: add_strings(first, ["event", "new"])[0],
        lambda: sanitize(first, FEATURES),
        lambda: Extension(first).to_bytes(),
        lambda: _copied(whole),
    ]
    for rewrite in rewrites:
        made = _maybe(rewrite)
        if made is not None:
            Btf.from_bytes(made)  # what this project writes, it reads


def _look(types: Btf) -> None:
    walk(types)
    assert pickle.loads(pickle.dumps(types)).raw == types.raw
    for each in types:
        _maybe(raw_lines, each)
        types.find_all(_maybe(lambda each=each: each.name) or "")
        codec = _maybe(codec_for, each)
        if codec is not None and codec.size <= _LARGEST:
            codec.unpack(bytes(codec.size))
    _maybe(types.to_c)
    source = _maybe(to_python, types)
    if source is not None:
        compile(source, "types", "exec")


def _records(ext: BtfExt) -> None:
    repr([ext, ext.func_info, ext.line_info, ext.core_relo])


def _copied(types: Btf) -> bytes:
    builder = Builder(types.byteorder)
    builder.add_all(types)
    return builder.to_bytes()


def elf(content: bytes) -> None:
    """Read an object file, show it, list its programs, read its variables and types, and make a module of it."""
    spec = _maybe(rawbpf.ObjectSpec.from_bytes, content)
    if spec is None:
        return
    assert str(spec).startswith("object: ")
    for program in spec.programs.values():
        program.disassemble(spec.functions)
    for variable in spec.variables.values():
        if variable.size <= _LARGEST:
            _maybe(lambda variable=variable: variable.value)
    types = ObjectTypes(spec._content)
    names = _maybe(lambda: [*types.names()]) or []
    for name in [*dict.fromkeys(names)][:_FEW]:
        _maybe(types.find, name)
    source = _maybe(skeleton, spec)
    if source is not None:
        compile(source, "module", "exec")


def save(content: bytes) -> None:
    """Read an object file; save, pickle and copy it as it is and with edits: what is read back is equal, or refused."""
    spec = _maybe(rawbpf.ObjectSpec.from_bytes, content)
    if spec is None:
        return
    assert spec.to_bytes() == content
    _same(spec, pickle.loads(pickle.dumps(spec)))
    _same(spec, spec.copy())
    for each in spec.maps.values():
        if not each.is_data:
            each.max_entries ^= 1
        elif each.value_size <= _LARGEST:
            _maybe(each.write, 0, b"\1")
    for program in spec.programs.values():
        program.autoload = not program.autoload
    _same(spec, pickle.loads(pickle.dumps(spec)))
    written = _maybe(spec.to_bytes)
    if written is not None:
        again = rawbpf.ObjectSpec.from_bytes(written, name=spec.name)
        _same(spec, again)
        assert again.to_bytes() == written


def _same(one: rawbpf.ObjectSpec, other: rawbpf.ObjectSpec) -> None:
    lost = next(differences(one._content, other._content), None)
    assert lost is None, lost


def relocate(content: bytes) -> None:
    """Read an object file and the types of a kernel; resolve one by the other, and load it on the simulator."""
    file, kernel = split(content, 2)
    spec, target = _maybe(rawbpf.ObjectSpec.from_bytes, file), _maybe(Btf.from_bytes, kernel)
    if spec is None or target is None:
        return
    for body in (_maybe(rawbpf.relocate, spec, target) or {}).values():
        assert all(map(str, body))
    if any(each.max_entries > _LARGEST or each.value_size > _LARGEST for each in spec.maps.values()):
        return  # a map takes as much memory as it says
    try:
        spec.load(target_btf=target, backend=Simulator(cpus=1, seed=0)).close()
    except (*REFUSALS, rawbpf.BpfError):
        pass


def link(content: bytes) -> None:
    """Read two object files and link them, in both orders; show and relocate what comes of it."""
    specs = [_maybe(rawbpf.ObjectSpec.from_bytes, each) for each in split(content, 2)]
    given = [each for each in specs if each is not None]
    if not given:
        return
    for order in (given, given[::-1]):
        linked = _maybe(rawbpf.ObjectSpec.link, order)
        if linked is not None:
            assert str(linked).startswith("linked: ")
            _same(linked, pickle.loads(pickle.dumps(linked)))
            if linked.btf is not None:
                walk(linked.btf)
                _maybe(rawbpf.relocate, linked, linked.btf)


TARGETS: dict[str, tuple[Callable[[bytes], None], int]] = {
    "btf": (btf, 3),
    "elf": (elf, 1),
    "save": (save, 1),
    "relocate": (relocate, 2),
    "link": (link, 2),
}
"""Each target by name, and of how many files its inputs consist."""
