"""A loaded program: what it is, running it, and its life time. Attaching it is in `attaching`.

How instructions come to be, and objects that hold several programs, are the loader's business.
Kernel side: kernel/bpf/syscall.c:bpf_prog_load, bpf_prog_new_fd (v6.12).
"""

from __future__ import annotations

import os

from rawbpf.map.module import Modules
from rawbpf.program.attaching import Attachable
from rawbpf.program.completion import complete
from rawbpf.spec.section import find_section
from rawbpf.syscall import obj
from rawbpf.syscall.btf import btf_load
from rawbpf.syscall.current import current
from rawbpf.syscall.lifetime import mark
from rawbpf.uapi.constants import BPF_STDERR, BPF_STDOUT
from rawbpf.uapi.names import attach_type_number, prog_type_name, prog_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from rawbpf.asm.instruction import Instruction
    from rawbpf.asm.label import Label
    from rawbpf.program.code import JitedFunction
    from rawbpf.program.completion import HasFileno
    from rawbpf.program.info import ProgramInfo
    from rawbpf.program.loading import LoadOptions
    from rawbpf.program.run import RunResult
    from rawbpf.program.stream import Stream
    from rawbpf.spec.section import Section
    from rawbpf.syscall.protocol import Backend
    from rawbpf.uapi.enums import ProgType


class Program(Attachable):
    """An open BPF program: `Program.load` and the loader make one, `from_pin`, `from_id` and `from_fd` open one.

    A program lives on in the kernel while links, pins, maps or other processes hold it.
    """

    __slots__ = ("_log", "_type")

    def __init__(
        self,
        backend: Backend,
        fd: int,
        *,
        name: str,
        prog_type: int,
        expected_attach_type: int = 0,
        section: Section | None = None,
        target: str = "",
        log: str = "",
    ) -> None:
        super().__init__(backend, fd)
        self._name = name
        self._type = prog_type
        self._attach_type = expected_attach_type
        self._section = section
        self._target = target
        self._log = log
        self._links = None

    @classmethod
    def load(
        cls,
        prog_type: str | int,
        instructions: Sequence[Instruction | Label] | str,
        /,
        *,
        license: str = "GPL",  # noqa: A002  (the kernel's word)
        name: str = "",
        maps: Mapping[str, HasFileno | int] | None = None,
        expected_attach_type: str | int | None = None,
        log_level: int = 0,
        log_size: int | None = None,
        backend: Backend | None = None,
        **options: Unpack[LoadOptions],
    ) -> Program:
        """Load a program from instructions, or from assembler text, and return it.

        `prog_type`: a type such as `xdp`, its number, or the name of a section such as
        `tp_btf/sched_switch`, which also says where `attach()` attaches. `instructions`: with labels and
        functions between them, or text that `rawbpf.asm.assemble` reads. `license`: helpers that are
        for the GPL only need a compatible one. `name`: letters, digits, `_` and `.`; the kernel keeps
        15. `maps`: the map for each name that instructions call one by, or another object with `fileno()`.
        `log_level` 1 or 2 keeps the verifier's log in `log`, 0 asks for one only after a refusal;
        `log_size` is the first buffer's size in bytes, which grows as needed. `func_info` and
        `line_info` are records for the BTF of `btf_fd`; without one, functions whose address is taken get
        a BTF of their own. Other options are fields of PROG_LOAD.
        Raises: VerifierError; PermissionDenied (EPERM); NotSupported where this kernel has no such programs; BpfError
        (E2BIG, EINVAL, ENOMEM; ENOENT: no such target); NotFound for a function or variable that no BTF of the kernel
        has; SpecError for a map that `maps` lacks, and for a label or function that is not there; FormatError for text
        that is none; ValueError for an unknown type, a bad name, no code, or a module's function and `fd_array`.
        Since: Linux 3.18. Source: kernel/bpf/syscall.c:bpf_prog_load
        """
        from rawbpf.program.loading import load_program

        if backend is None:
            backend = current()
        section, target = None, ""
        if isinstance(prog_type, str):
            # Most types are a section as well, which knows flags and attach types that the kernel insists on.
            section = find_section(prog_type)
            target = section.target(prog_type) if section is not None else ""
            number = section.prog_type if section is not None else prog_type_number(prog_type)
        else:
            number = int(prog_type)
        if isinstance(expected_attach_type, str):
            expected_attach_type = attach_type_number(expected_attach_type)
        btf = 0
        modules = Modules(backend)
        try:
            program = complete(backend, instructions, {} if maps is None else maps, modules, name=name)
            if modules.fd_array and options.setdefault("fd_array", modules.fd_array) is not modules.fd_array:
                raise ValueError(f"program {name!r} calls a module's function by name: fd_array= has no place for it")
            if program.callbacks and not options.get("btf_fd"):
                from rawbpf.spec.function import describe_functions  # with what builds BTF, which few need

                types, options["func_info"] = describe_functions(program.functions, backend.host.byteorder)
                options["btf_fd"] = btf = btf_load(backend, types, token_fd=options.get("token_fd", 0), subject=name)
            return load_program(
                backend,
                prog_type=number,
                instructions=program.instructions,
                name=name,
                license=license,
                expected_attach_type=expected_attach_type,
                section=section,
                target=target,
                modules=modules,
                log_level=log_level,
                log_size=log_size,
                **options,
            )
        finally:
            modules.close()
            if btf:
                backend.close(btf)

    @classmethod
    def from_pin(cls, path: str | os.PathLike[str], *, backend: Backend | None = None) -> Program:
        """Return the program that is pinned at `path`.

        Raises: NotFound (ENOENT); BpfError (EINVAL: it is no program); PermissionDenied (EACCES). Since: Linux 4.4.
        """
        backend = backend or current()
        return _opened(backend, obj.obj_get(backend, os.fsencode(path)))

    @classmethod
    def from_id(cls, prog_id: int, *, backend: Backend | None = None) -> Program:
        """Return the program with this id. Raises: NotFound (ENOENT); PermissionDenied (EPERM). Since: Linux 4.13."""
        backend = backend or current()
        return _opened(backend, obj.prog_get_fd_by_id(backend, prog_id))

    @classmethod
    def from_fd(cls, fd: int, own: bool = False, *, backend: Backend | None = None) -> Program:
        """Return the program behind `fd`, of which a duplicate is made unless `own`.

        Raises: Closed (EBADF); BpfError (EINVAL: it is no program), and then `fd` is as before.
        """
        backend = backend or current()
        return _opened(backend, fd if own else backend.dup(fd), close_on_error=not own)

    @property
    def name(self) -> str:
        """The name it was loaded with, which may be longer than the 15 characters that the kernel keeps."""
        return self._name

    @property
    def type(self) -> ProgType | int:
        """The program type; a plain int where this release does not know it."""
        from rawbpf.program.info import type_of

        return type_of(self._type)

    @property
    def log(self) -> str:
        """The verifier's log, complete; empty unless it was asked for by `log_level`."""
        return self._log

    @property
    def stdout(self) -> Stream:
        """What it printed and nobody has read: `program.stdout.read()`, or line by line. Since: Linux 6.17."""
        from rawbpf.program.stream import Stream

        return Stream(self, BPF_STDOUT)

    @property
    def stderr(self) -> Stream:
        """What the kernel wrote about it, such as why it stopped it, or it itself. Since: Linux 6.17."""
        from rawbpf.program.stream import Stream

        return Stream(self, BPF_STDERR)

    @property
    def info(self) -> ProgramInfo:
        """What the kernel tells of the program now. Raises: Closed."""
        from rawbpf.program.info import read_info

        return read_info(self._backend, self.fileno())

    @property
    def id(self) -> int:
        """The kernel's id of the program. Raises: Closed."""
        return self.info.id

    @property
    def tag(self) -> str:
        """The hash of its instructions, 16 hex digits. Raises: Closed."""
        return self.info.tag

    def xlated(self) -> list[Instruction]:
        """Return its instructions as the kernel runs or compiles them: checked, rewritten, without dead code.

        Maps are there as `map[id:5]`, helpers and functions of the kernel by name where `/proc/kallsyms` tells
        addresses. Source lines and functions are there if it was loaded with BTF that this process may read.
        Raises: PermissionDenied (EPERM) where the kernel shows no code; Closed.
        Since: Linux 4.13. Source: kernel/bpf/syscall.c:bpf_insn_prepare_dump
        """
        from rawbpf.program.code import read_xlated

        return read_xlated(self._backend, self.fileno()).instructions

    def jited(self) -> list[JitedFunction]:
        """Return the machine code that the kernel's compiler made of each of its functions.

        Raises: PermissionDenied (EPERM) where the kernel shows no addresses; NotSupported for a program that the
        interpreter runs; Closed. Since: Linux 4.13
        """
        from rawbpf.program.code import read_jited

        return read_jited(self._backend, self.fileno())

    def disassemble(self, *, jited: bool = False, source: bool = True) -> str:
        """Return a listing of `xlated()`; with `jited`, one of `jited()`, which takes capstone.

        `source`: source lines stand above what became of them, where it was loaded with BTF that this process may read.
        Raises: as `xlated` and `jited`; ImportError without capstone.
        """
        from rawbpf.program.code import listing

        return listing(self._backend, self.fileno(), jited=jited, source=source)

    def run(
        self,
        data: bytes = b"",
        ctx: bytes | None = None,
        repeat: int = 1,
        *,
        data_size_out: int | None = None,
        flags: int = 0,
        cpu: int = 0,
        batch_size: int = 0,
    ) -> RunResult:
        """Run it in the kernel now and return what came of it.

        `data`: the packet, for types that work on one. `ctx`: the context struct, for types that take
        one (`struct __sk_buff`, `struct xdp_md`, a raw tracepoint's arguments; any bytes for type
        syscall, which may change them). `repeat`: how often; the result is the last run's, with the
        mean duration. `data_size_out`: how long the packet may become, in bytes. `flags`, `cpu` and
        `batch_size` are the command's.
        Raises: NotSupported (ENOTSUPP) for types that cannot be run; BpfError (EINVAL: sizes or
        options that the type does not take; ENOSPC: the packet grew beyond `data_size_out`).
        Since: Linux 4.12. Source: kernel/bpf/syscall.c:bpf_prog_test_run
        """
        from rawbpf.program.run import run

        subject = f"{self._name!r} ({prog_type_name(self._type)})"
        return run(
            self._backend,
            self.fileno(),
            self._type,
            data,
            ctx,
            repeat,
            data_size_out=data_size_out,
            flags=flags,
            cpu=cpu,
            batch_size=batch_size,
            subject=subject,
        )

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the program a name in a bpf file system, which keeps it loaded without this process.

        Raises: Closed; KeyExists (EEXIST); NotFound (ENOENT); PermissionDenied (EPERM: no bpf file system).
        Since: Linux 4.4.
        """
        subject = f"program {self._name!r} at {os.fspath(path)!r}"
        obj.obj_pin(self._backend, self.fileno(), os.fsencode(path), subject=subject)

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"fd {self._fd}"
        return f"<Program {self._name!r} ({self.section or prog_type_name(self._type)}), {where}{mark(self._backend)}>"


def _opened(backend: Backend, fd: int, *, close_on_error: bool = True) -> Program:
    from rawbpf.program.info import read_info
    from rawbpf.syscall.descriptor import require_kind

    try:
        require_kind(backend, fd, "program")
        info = read_info(backend, fd)
    except BaseException:
        if close_on_error:
            backend.close(fd)
        raise
    return Program(backend, fd, name=info.name, prog_type=info.type_number)
