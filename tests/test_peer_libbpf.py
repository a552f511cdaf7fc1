"""What libbpf makes of object files, rawbpf makes of them: of the project's and of others' in Debian's packages."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from peer import built, corpus, libbpf
from peer.compare import differing, differing_code
from support.needs import require
from support.objects import BPF, OBJECTS

from rawbpf import ObjectSpec, relocate
from rawbpf.btf import Btf
from rawbpf.elf.types import read_types
from rawbpf.errors import BpfError, FormatError, NotSupported, SpecError
from rawbpf.loader.externs import Externs
from rawbpf.loader.kconfig import fill_config
from rawbpf.map.module import Modules
from rawbpf.spec.map import PIN_NONE
from rawbpf.syscall.current import using
from rawbpf.syscall.kernel import KernelBackend

if TYPE_CHECKING:
    from peer.libbpf import Answer, Libbpf

    from rawbpf.asm import Instruction
    from rawbpf.syscall.protocol import Backend


pytestmark = pytest.mark.timeout(600)
AT_LEAST = {"opened by libbpf": 225, "programs": 900}


class Read(NamedTuple):
    """An object as both sides read it; None where a side does not."""

    path: Path
    spec: ObjectSpec | None
    refusal: str
    answer: Answer | None


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Libbpf:
    require(*libbpf.NEEDS)
    return libbpf.Libbpf(tmp_path_factory.mktemp("libbpf"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    require("archive:debian", *built.NEEDS)
    folder = tmp_path_factory.mktemp("built")
    own = {f"{path.parent.name}/{path.name}": path for of in (BPF, OBJECTS) for path in of.glob("*.o")}
    return {
        **{f"built/{path.name}": path for path in built.objects(folder)},
        **dict(sorted(own.items())),
        **{corpus.name(path): path for path in corpus.objects()},
    }


@pytest.fixture(scope="module")
def read(peer: Libbpf, objects: dict[str, Path]) -> dict[str, Read]:
    return {name: _read(peer, path) for name, path in objects.items()}


def _read(peer: Libbpf, path: Path) -> Read:
    spec = answer = None
    refusal = ""
    try:
        answer = peer.relocated(path)
    except libbpf.Refused:
        pass
    try:
        spec = ObjectSpec.from_file(path)
    except (FormatError, SpecError) as error:
        refusal = str(error)
    else:
        if "LINUX_HAS_BPF_COOKIE" in spec.variables:  # whatever the kernel has: the driver answers that it has all
            spec.variables["LINUX_HAS_BPF_COOKIE"].value = True
        with suppress(SpecError, NotSupported):  # where libbpf does not load the object either
            fill_config(KernelBackend(), spec._content)
    return Read(path, spec, refusal, answer)


def _require_none(differences: Mapping[str, str]) -> None:
    assert not differences, "\n" + "\n".join(f"{what}: {how}" for what, how in differences.items())


def _say(capsys: pytest.CaptureFixture[str], counts: Counter[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{', '.join(f'{count} {what}' for what, count in counts.items())}\n")


def test_what_libbpf_opens_is_opened(read: dict[str, Read]) -> None:
    _require_none({name: each.refusal for name, each in read.items() if each.answer and not each.spec})


def test_maps_and_programs_are_those_of_libbpf(read: dict[str, Read]) -> None:
    found = {
        f"{name}: {what}": how
        for name, each in read.items()
        if each.spec and each.answer
        for what, how in differing(each.spec, each.answer)
    }
    _require_none(found)


def test_relocated_instructions_are_those_of_libbpf(
    read: dict[str, Read], peer: Libbpf, capsys: pytest.CaptureFixture[str]
) -> None:
    # Against the running kernel's types and against those of another, which are the same everywhere.
    require("file:/sys/kernel/btf/vmlinux")
    path = corpus.fixed_btf()
    fixed = Btf.from_bytes(path.read_bytes())
    counts = Counter[str]()
    found: dict[str, str] = {}
    for name, each in read.items():
        if each.answer and each.spec:
            for target, answer in ((None, each.answer), (fixed, peer.relocated(each.path, path))):
                compared = {program["name"] for program in answer["programs"] if program["code"] is not None}
                differences = dict(differing_code(_code(each.spec, target), answer))
                counts["relocated by libbpf"] += len(compared)
                counts["the same by rawbpf"] += len(compared - {what.split()[1].rstrip(":") for what in differences})
                found |= {f"{name}: {what}": how for what, how in differences.items()}
    _say(capsys, counts)
    _require_none(found)
    assert counts["relocated by libbpf"] >= 2 * AT_LEAST["programs"]


def test_fields_are_found_in_other_layouts_as_libbpf_finds_them(peer: Libbpf, tmp_path: Path) -> None:
    require(*built.NEEDS)
    program, kernel = built.layouts(tmp_path)
    answer = peer.relocated(program, kernel)
    code = _code(ObjectSpec.from_file(program), read_types(kernel.read_bytes(), kernel.name))
    _require_none(dict(differing_code(code, answer)))
    refused = {name for name, each in code.items() if isinstance(each, Exception)}
    assert refused == {each["name"] for each in answer["programs"] if each["code"] is None}
    assert len(refused) < len(code) // 10


def _code(spec: ObjectSpec, target: Btf | None) -> dict[str, list[Instruction] | Exception]:
    spec = spec.copy()
    for program in spec.programs.values():
        program.autoload = True
    backend = KernelBackend()
    with using(backend), Modules(backend) as modules:
        externs = Externs(backend, spec._content.ksyms, modules)
        try:
            relocated = relocate(spec, target)
            externs.resolve(relocated.values())
            return {name: [externs.patched(each) for each in code] for name, code in relocated.items()}
        except (BpfError, SpecError) as error:
            if len(spec.programs) == 1:
                return dict.fromkeys(spec.programs, error)
        # One that cannot be relocated stops the rest, so that each is then tried on its own.
        return {name: code for name in spec.programs for code in _code(_only(spec, name), target).values()}


def _only(spec: ObjectSpec, name: str) -> ObjectSpec:
    spec = spec.copy()
    for other in set(spec.programs) - {name}:
        del spec.programs[other]
    return spec


@pytest.mark.real_kernel("the running kernel says which programs of libbpf's it takes")
def test_what_libbpf_loads_is_loaded(
    read: dict[str, Read], peer: Libbpf, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, str] = {}
    loaded = 0
    for name, each in read.items():
        if each.answer and each.spec:
            programs = [program for program, error in peer.loaded(each.path).items() if not error]
            loaded += len(programs)
            found |= {f"{name}: program {program}": error for program, error in _refused(each.spec, programs)}
    _say(capsys, Counter({"programs loaded by libbpf": loaded, "of them by rawbpf": loaded - len(found)}))
    _require_none(found)
    assert loaded


# The programs of those `names` that cannot be loaded, and why. At first together, because that takes less time.
def _refused(spec: ObjectSpec, names: list[str]) -> Iterator[tuple[str, str]]:
    spec = spec.copy()
    for shared in spec.maps.values():
        shared.pinning = PIN_NONE
    known = [name for name in names if name in spec.programs]
    if _load(spec, known):
        for name in known:
            if refusal := _load(spec, [name]):
                yield name, refusal


def _load(spec: ObjectSpec, names: list[str]) -> str:
    try:
        spec.load(only=names).close()
    except (BpfError, SpecError) as error:
        return str(error).partition("\n")[0]
    return ""


def test_enough_is_compared(read: dict[str, Read], capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter[str]()
    for each in read.values():
        counts["objects"] += 1
        counts["opened by libbpf"] += each.answer is not None
        counts["opened by rawbpf"] += each.spec is not None
        counts["opened by both"] += each.answer is not None and each.spec is not None
        counts["programs"] += len(each.answer["programs"]) if each.answer else 0
    _say(capsys, counts)
    assert all(counts[what] >= least for what, least in AT_LEAST.items()), counts
