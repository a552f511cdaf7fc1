"""The kernel's side of `.ksyms`: what it has under the names that an object declares, and instructions that say so.

Variables and functions are ids in the BTF of the kernel or of a module, plain addresses come from its table of
symbols. What is weak and missing has the address 0, and a call of it is one that the verifier takes only
where it is never reached.

Source: tools/lib/bpf/libbpf.c:bpf_object__resolve_externs, bpf_object__relocate_data (v6.12);
kernel/bpf/verifier.c:check_pseudo_btf_id, fetch_kfunc_meta.
"""

from __future__ import annotations

from rawbpf.asm.instruction import KernelReference
from rawbpf.btf import indexed
from rawbpf.btf.core_compare import Comparison, essential_name
from rawbpf.btf.text import declare
from rawbpf.btf.types import Func, FuncProto, Fwd, Ptr, Var, strip
from rawbpf.errors import NotFound, NotSupported, SpecError
from rawbpf.map.module import find
from rawbpf.program.target import no_symbol, with_symbol
from rawbpf.symbols import find_addresses
from rawbpf.uapi import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rawbpf.asm.instruction import Instruction
    from rawbpf.btf import Btf
    from rawbpf.btf.types import Type
    from rawbpf.errors import VerifierError
    from rawbpf.map.module import Module, Modules
    from rawbpf.spec.ksym import KsymSpec
    from rawbpf.syscall.protocol import Backend

POISON = 2002000000
"""The helper that is called in the place of a missing function, above which its index counts. libbpf has the same."""

_ENOENT = 2


class Found:
    """Where the kernel has a symbol: an `address`, or an `id` in its BTF or in that of a `module`."""

    __slots__ = ("address", "id", "module")

    def __init__(self, address: int = 0, btf_id: int = 0, module: Module | None = None) -> None:
        self.address = address
        self.id = btf_id
        self.module = module


def find_typed(symbol: KsymSpec, kernel: Btf, loaded: Iterable[Module]) -> Found | None:
    """Return where `kernel`, or else the first of the `loaded` modules, has `symbol`, whose type is declared.

    None where there is none, also for a weak function that takes or returns something else. A flavor
    (`NAME___mine`) is no part of a function's name, so that an object may declare several forms of one and use what
    is there.

    Raises: SpecError where it has another type; FormatError.
    """
    if symbol.type is None:
        return None
    is_function = isinstance(symbol.type, FuncProto)
    name = essential_name(symbol.name) if is_function else symbol.name
    kind: type[Func | Var] = Func if is_function else Var
    found, module = find(name, kind, kernel, loaded)
    if found is None:
        return None
    theirs = strip(found.type)
    if Comparison().compatible(symbol.type, theirs):
        return Found(btf_id=found.id, module=module)
    if is_function and symbol.weak:
        return None
    if isinstance(symbol.type, Fwd):
        raise SpecError(f"the object declares '{declare(symbol.type, name)}' of a type that it does not define")
    where = "the kernel" if module is None else f"module {module.name!r}"
    raise SpecError(
        f"the object declares '{declare(symbol.type, name)}', and what {where} has is '{declare(theirs, name)}'"
        f"{_undefined(symbol.type)}"
    )


class Externs:
    """What an object declares of the kernel, as `resolve` finds it there and in its `modules`."""

    def __init__(self, backend: Backend, declared: Mapping[str, KsymSpec], modules: Modules) -> None:
        self._backend = backend
        self._declared = declared
        self._modules = modules
        self._found: dict[str, Found] = {}
        self._missing: dict[int, str] = {}

    def resolve(self, code: Iterable[Iterable[Instruction]]) -> None:
        """Find all that is declared and that the programs in `code` refer to.

        Raises: NotFound (ENOENT) for what is missing and not weak; SpecError for other types, and for a name of
        several addresses; PermissionDenied where addresses are hidden; NotSupported where the kernel has no BTF or
        no symbols; BpfError; FormatError.
        """
        names = {i.reference.name for body in code for i in body if isinstance(i.reference, KernelReference)}
        # In libbpf's order, by which modules are numbered.
        wanted = sorted((self._declared[name] for name in names & self._declared.keys()), key=lambda each: each.index)
        addresses = {symbol.name for symbol in wanted if symbol.type is None}
        known = find_addresses(self._backend.host, addresses) if addresses else {}
        for symbol in wanted:
            found = self._typed(symbol) if symbol.type is not None else _only(symbol.name, known.get(symbol.name))
            if found is not None:
                self._found[symbol.name] = found
                if found.module is not None and isinstance(symbol.type, FuncProto):
                    self._modules.index(found.module)
            elif symbol.weak:
                self._missing[POISON + symbol.index] = symbol.name
            else:
                raise self._not_found(symbol)

    def patched(self, instruction: Instruction) -> Instruction:
        """Return `instruction`, which refers to a symbol of the kernel by name, as the kernel takes it."""
        reference = instruction.reference
        if not isinstance(reference, KernelReference):
            return instruction
        symbol, found = self._declared.get(reference.name), self._found.get(reference.name)
        if symbol is None:  # put there by who edited the program
            return with_symbol(self._backend, instruction, reference.name, self._modules)
        if instruction.is_call:
            if not isinstance(symbol.type, FuncProto):
                raise SpecError(f"{symbol.name!r} is called, and declared as no function")
            if found is None:
                return instruction.replace(dst=0, src=0, offset=0, imm=POISON + symbol.index, reference=False)
            offset = 0 if found.module is None else self._modules.index(found.module)
            return instruction.replace(imm=found.id, offset=offset, reference=False)
        if symbol.type is None or found is None:
            return instruction.replace(src=0, imm=0 if found is None else found.address, reference=False)
        fd = 0 if found.module is None else self._modules.fd(found.module)
        return instruction.replace(src=c.BPF_PSEUDO_BTF_ID, imm=fd << 32 | found.id, reference=False)

    def explain(self, error: VerifierError) -> None:
        """Say in `error`'s text which function is missing, if a call of one is what was refused."""
        for number, name in self._missing.items():
            if f"#{number}" in error.summary:
                error.summary = error.hint = (
                    f"{name!r} is called, which is __weak, and which the kernel lacks or has with another prototype: "
                    f"call it only if bpf_ksym_exists({name})"
                )

    def _typed(self, symbol: KsymSpec) -> Found | None:
        try:
            kernel = indexed(self._backend.host.btf())
        except NotSupported:
            if symbol.weak:
                return None
            raise
        try:
            return find_typed(symbol, kernel, self._modules)
        except SpecError as error:
            raise SpecError(f"kernel symbol {symbol.name!r}: {error}") from None

    def _not_found(self, symbol: KsymSpec) -> NotFound:
        if symbol.type is None:
            hint = f"the kernel's table of symbols has no {symbol.name!r}"
            error = NotFound(
                _ENOENT, call="find", subject=f"symbol {symbol.name}", hint=hint, backend=self._backend.name
            )
        elif isinstance(symbol.type, FuncProto):
            error = no_symbol(self._backend, essential_name(symbol.name), "function", self._modules)
        else:
            error = no_symbol(self._backend, symbol.name, "variable", self._modules)
        error.hint += "; declare it __weak if the object can do without"
        return error


def _undefined(declared: Type) -> str:
    # A struct that is declared only is of another kind than one, also behind a pointer.
    if isinstance(declared, FuncProto):
        for each in (declared.return_type, *(type for _, type in declared.params)):
            pointer = strip(each)
            behind = strip(pointer.type) if isinstance(pointer, Ptr) else pointer
            if isinstance(behind, Fwd):
                word = "union" if behind.is_union else "struct"
                return f": there the object has to define '{word} {behind.name}', if only as {{}}"
    return ""


def _only(name: str, addresses: set[int] | None) -> Found | None:
    if addresses is None:
        return None
    if len(addresses) > 1:
        several = ", ".join(map(hex, sorted(addresses)))
        raise SpecError(f"kernel symbol {name!r} is the name of several things, at {several}: which is meant?")
    return Found(address=min(addresses))
