"""An object file as a specification: what it defines, open to edits, and the way to load it.

Reading needs no privileges and makes no system call; `load` talks to a kernel and leaves the
specification as it was.
"""

from __future__ import annotations

import os

from rawbpf.loader.file import read_file, written_at_once
from rawbpf.spec.named import Named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Literal, TypedDict, Unpack

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf import Btf
    from rawbpf.loader.object import Object
    from rawbpf.map.base import Map
    from rawbpf.map.constructors import Token
    from rawbpf.spec.map import MapSpec
    from rawbpf.spec.object import ObjectData
    from rawbpf.spec.program import ProgramSpec
    from rawbpf.spec.variable import VariableSpec
    from rawbpf.syscall.protocol import Backend

    class LoadOptions(TypedDict, total=False):
        """The keyword arguments of `ObjectSpec.load`."""

        only: Iterable[str] | None
        maps: Mapping[str, Map[Any, Any]] | None
        pin_dir: str | os.PathLike[str] | None
        target_btf: Btf | Iterable[Btf] | None
        log_level: int
        log_size: int | None
        token: Token | None
        backend: Backend | None


class ObjectSpec:
    """What an object file defines: `maps`, `programs` and `variables` by name; `license`, `byteorder`, `btf`.

    Edit before loading: `spec.maps["exec_count"].max_entries = 4096`,
    `spec.variables["min_uid"].value = 1000`, `spec.programs["count"].autoload = False`. The three are dicts
    from which entries may be deleted; assigning to an entry raises TypeError.
    """

    __slots__ = ("_content",)

    def __init__(self, content: ObjectData) -> None:
        content.maps = Named("spec.maps", "edit what it has, as in {}.max_entries = 4096", content.maps)
        content.programs = Named("spec.programs", "edit what it has, as in {}.autoload = False", content.programs)
        content.variables = Named("spec.variables", "set {}.value", content.variables)
        self._content = content

    @classmethod
    def from_file(cls, path: str | bytes | os.PathLike[str]) -> ObjectSpec:
        """Read the object file at `path`, as `clang -target bpf -g -c` writes it.

        Raises: OSError; FormatError for what is no BPF object; SpecError for an object that contradicts
        itself; ImportError without pyelftools.
        """
        where = os.fsdecode(path)
        return cls.from_bytes(read_file(where, (b"\x7fELF",)), name=os.path.basename(where))

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "object") -> ObjectSpec:
        """Read an object file from memory; `name` is what messages call it. Raises: as `from_file`."""
        from rawbpf.elf import parse

        return cls(parse(content, name))

    @classmethod
    def link(
        cls, objects: Iterable[ObjectSpec | str | bytes | os.PathLike[str]], *, name: str = "linked"
    ) -> ObjectSpec:
        """Return one specification of several `objects`, read or as paths, whose parts refer to one another.

        What is declared `extern` in one is found in the others: functions, variables, maps. A strong definition goes
        before weak ones, and of these the first counts. Data sections of one name are laid one behind the other.
        What no object defines may be in one that is linked later; until then nothing that refers to it can be loaded.
        `name` is what messages call the result. Changes nothing in `objects`.

        Raises: SpecError for what two define, where declaration and definition differ, and where license, kernel
        version or byte order do; as `from_file` for paths.

        Source: tools/lib/bpf/linker.c:bpf_linker__add_file (v6.12)
        """
        from rawbpf.spec.linker import link

        if isinstance(objects, (str, bytes, os.PathLike, ObjectSpec)):
            raise TypeError(f"expected a list of objects to link, got {objects!r}")
        specs = [each if isinstance(each, ObjectSpec) else cls.from_file(each) for each in objects]
        return cls(link([spec._content for spec in specs], name))

    @property
    def name(self) -> str:
        """The file's name."""
        return self._content.name

    @property
    def maps(self) -> dict[str, MapSpec]:
        """The maps, data sections such as `.bss` included."""
        return self._content.maps

    @property
    def programs(self) -> dict[str, ProgramSpec]:
        """The programs, by the names of their C functions."""
        return self._content.programs

    @property
    def variables(self) -> dict[str, VariableSpec]:
        """The global variables, by name."""
        return self._content.variables

    @property
    def functions(self) -> dict[str, list[Instruction]]:
        """The instructions of the subprograms, by name: functions that programs call."""
        return self._content.functions

    @property
    def btf(self) -> Btf | None:
        """The object's types; None where it was compiled without -g."""
        return self._content.btf

    @property
    def license(self) -> str:
        """The license, by which the kernel decides whether GPL-only helpers may be called."""
        return self._content.license

    @property
    def byteorder(self) -> Literal["little", "big"]:
        """The byte order of the machines that the object was compiled for."""
        return self._content.byteorder

    def to_bytes(self) -> bytes:
        """Return an object file that says what this does: the one that it was read from, with the edits in it.

        What compilers write where goes there: values of variables, sizes of data sections, what defines a map,
        and, as the name of its section, what a program is and whether it is loaded by itself.
        `from_bytes`, libbpf and bpftool read it; but what lies in `.bss` only rawbpf lets start with anything
        but zeros.
        Raises: SpecError for an edit that an object file has no place for, such as one of instructions, and where
        programs of one section differ.
        """
        from rawbpf.elf.save import saved

        return saved(self._content)

    def save(self, path: str | bytes | os.PathLike[str]) -> None:
        """Write the object file that `to_bytes` returns; it appears whole, in place of one that is there.

        Raises: OSError, also where `path` is something else than a file; as `to_bytes`.
        """
        content = self.to_bytes()
        with written_at_once(os.fsdecode(path)) as made, open(made, "wb") as file:
            file.write(content)

    def copy(self) -> ObjectSpec:
        """Return a specification that can be edited without changing this one."""
        return ObjectSpec(self._content.copy())

    def load(
        self,
        only: Iterable[str] | None = None,
        maps: Mapping[str, Map[Any, Any]] | None = None,
        pin_dir: str | os.PathLike[str] | None = None,
        target_btf: Btf | Iterable[Btf] | None = None,
        log_level: int = 0,
        log_size: int | None = None,
        token: Token | None = None,
        backend: Backend | None = None,
    ) -> Object:
        """Create the maps, load the programs, and return the object that owns both.

        `only`: the programs to load, by name; by default all but those whose section begins with `?`.
        `maps`: open maps to use in place of the object's own, by the object's names for them; they stay
        the caller's. `pin_dir`: the bpffs directory of maps that are pinned by name (by default
        /sys/fs/bpf). `target_btf`: the types to relocate against, in place of the running kernel's: those of
        a kernel, or of a kernel and then of its modules.
        `log_level`, `log_size`: the verifier's log, kept as `Program.log`; by default it is only asked
        for when a program is refused. `token`: a BPF token, as its fd or an object with `fileno()`.
        `backend`: by default the current one.

        Raises: VerifierError; PermissionDenied; NotSupported; SpecError; FormatError for damaged types; BpfError;
        TypeError and OverflowError for what was edited to be no number, or is no map. Nothing stays behind.
        """
        from rawbpf.loader.load import load

        return load(
            self._content.copy(),
            only=only,
            maps=maps,
            pin_dir=pin_dir,
            target_btf=target_btf,
            log_level=log_level,
            log_size=log_size,
            token=token,
            backend=backend,
        )

    def __getstate__(self) -> ObjectData:
        return self._content

    def __setstate__(self, content: ObjectData) -> None:
        self._content = content

    def __repr__(self) -> str:
        counts = f"{len(self.programs)} programs, {len(self.maps)} maps, {len(self.variables)} variables"
        return f"<ObjectSpec {self.name!r}: {counts}>"

    def __str__(self) -> str:
        from rawbpf.spec.summary import summary

        return summary(self._content)


def load(path: str | bytes | os.PathLike[str], **options: Unpack[LoadOptions]) -> Object:
    """Read the object file at `path` and load it; `options` are those of `ObjectSpec.load`. Raises: as both."""
    return ObjectSpec.from_file(path).load(**options)
