"""Symbols that an object declares of the kernel: variables, functions and addresses, weak ones that may be missing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clang import LIBBPF, compiled

import rawbpf
from rawbpf.asm import KernelReference, build
from rawbpf.btf import Func, Var, vmlinux
from rawbpf.errors import NotFound, SpecError, VerifierError
from rawbpf.loader.externs import POISON, Externs
from rawbpf.loader.link import link
from rawbpf.map.module import Modules

if TYPE_CHECKING:
    from rawbpf.asm.instruction import Instruction
    from rawbpf.syscall.protocol import Backend

pytestmark = [pytest.mark.needs("tool:clang", "module:elftools", "file:/sys/kernel/btf/vmlinux")]
Compile = Callable[[str], rawbpf.ObjectSpec]
PACKET = bytes(14)

NUMBERS = """
struct bpf_iter_num { u64 opaque; } __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
"""
SUM = (
    NUMBERS
    + """
u64 sum;
static __noinline int add(struct bpf_iter_num *it)
{
	int *v = bpf_iter_num_next(it);
	if (!v) return 0;
	sum += *v;
	return 1;
}
SEC("tc") int loop(void *ctx)
{
	struct bpf_iter_num it; int *v;
	if (!bpf_iter_num_new) return 1;
	bpf_iter_num_new(&it, 1, 11);
	while ((v = bpf_iter_num_next(&it))) sum += *v;
	bpf_iter_num_destroy(&it);
	return 7;
}
"""
)


@pytest.fixture
def compile_spec(tmp_path: Path) -> Compile:
    return lambda source: rawbpf.ObjectSpec.from_file(compiled(tmp_path, source, prelude=LIBBPF))


def resolved(backend: Backend, spec: rawbpf.ObjectSpec, name: str) -> list[Instruction]:
    # What of the program `name` would be loaded, but for maps.
    content = spec._content
    linked = link(content.programs[name], content.functions)
    with Modules(backend) as modules:
        externs = Externs(backend, content.ksyms, modules)
        externs.resolve([linked])
        return [externs.patched(instruction) for instruction in linked]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_iter_num_new")
def test_functions_of_the_kernel_are_called(backend: Backend, compile_spec: Compile) -> None:
    with compile_spec(SUM).load() as obj:
        assert obj.programs["loop"].run(PACKET).retval == 7
        assert obj.variables["sum"].value == 55


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_rdonly_cast", "btf_name:bpf_cast_to_kern_ctx")
def test_functions_that_take_what_is_known_when_the_program_is_loaded_are_called(
    backend: Backend, compile_spec: Compile
) -> None:
    spec = compile_spec(
        """
extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(void *obj, u32 btf_id) __ksym;
struct sk_buff { unsigned int len; } __attribute__((preserve_access_index));
SEC("tc") int length(void *ctx)
{
	struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct sk_buff *same = bpf_rdonly_cast(skb, __builtin_btf_type_id(*skb, 1));
	return skb->len + same->len;
}
"""
    )
    with spec.load() as obj:
        assert obj.programs["length"].run(bytes(60)).retval == 120


@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_calls_and_addresses_are_references_by_name(tmp_path: Path, target: str) -> None:
    spec = rawbpf.ObjectSpec.from_file(compiled(tmp_path, SUM, target=target, prelude=LIBBPF))
    code = spec.programs["loop"].instructions
    names = [i.reference.name for i in code if isinstance(i.reference, KernelReference)]
    assert names[:3] == ["bpf_iter_num_new", "bpf_iter_num_new", "bpf_iter_num_next"]
    assert next(str(i) for i in code if i.is_call) == "call kernel[bpf_iter_num_new]"
    assert {name: (k.weak, k.index) for name, k in spec._content.ksyms.items()} == {
        "bpf_iter_num_destroy": (False, 0),
        "bpf_iter_num_new": (True, 1),
        "bpf_iter_num_next": (False, 2),
    }


@pytest.mark.needs("btf_name:bpf_iter_num_new")
def test_a_function_is_its_id_in_the_kernels_types(backend: Backend, compile_spec: Compile) -> None:
    found = vmlinux().find("bpf_iter_num_new", Func)
    assert found is not None
    address, called = (i for i in resolved(backend, compile_spec(SUM), "loop") if i.imm == found.id)
    assert (address.opcode, address.src, address.offset) == (0x18, 3, 0)
    assert (called.opcode, called.src, called.offset) == (0x85, 2, 0)


ABSENT = """
extern int bpf_no_such_function(int x) __ksym __weak;
extern int bpf_iter_num_next___other(int a, int b, int c) __ksym __weak;
extern int CONFIG_NOBODY_HAS_THIS __kconfig __weak;
u64 first = 1, second = 1;
SEC("tc") int absent(void *ctx)
{
	first = (u64)bpf_no_such_function;
	second = (u64)bpf_iter_num_next___other;
	if (bpf_no_such_function) return bpf_no_such_function(1);
	if (bpf_iter_num_next___other) return bpf_iter_num_next___other(1, 2, 3);
	return 3 + CONFIG_NOBODY_HAS_THIS;
}
"""


@pytest.mark.real_kernel("programs run there only")
def test_weak_functions_that_are_missing_or_of_another_type_have_the_address_0(
    backend: Backend, compile_spec: Compile
) -> None:
    with compile_spec(ABSENT).load() as obj:
        assert obj.programs["absent"].run(PACKET).retval == 3
        assert (obj.variables["first"].value, obj.variables["second"].value) == (0, 0)


def test_calls_of_missing_weak_functions_are_those_of_libbpf(backend: Backend, compile_spec: Compile) -> None:
    code = resolved(backend, compile_spec(ABSENT), "absent")
    calls = [(i.imm, i.src, i.dst, i.offset) for i in code if i.is_call]
    # Its numbers count all that is declared, .kconfig first, then by name.
    assert calls == [(POISON + 2, 0, 0, 0), (POISON + 1, 0, 0, 0)]
    assert POISON == 2002000000


@pytest.mark.real_kernel("a simulated kernel verifies no program")
def test_a_missing_weak_function_that_is_called_all_the_same_is_told(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(
        """
extern int bpf_no_such_function(int) __ksym __weak;
SEC("tc") int f(void *ctx) { return bpf_no_such_function(1); }
"""
    )
    with pytest.raises(VerifierError, match="'bpf_no_such_function' is called, which is __weak, and which"):
        spec.load()


FLAVORS = (
    NUMBERS
    + """
extern int bpf_iter_num_new___two(struct bpf_iter_num *it, int end) __ksym __weak;
extern int bpf_iter_num_new___three(struct bpf_iter_num *it, int start, int end) __ksym __weak;
SEC("tc") int choose(void *ctx)
{
	struct bpf_iter_num it; int result = 1;
	if (bpf_iter_num_new___two) { bpf_iter_num_new___two(&it, 1); result = 2; }
	else if (bpf_iter_num_new___three) { bpf_iter_num_new___three(&it, 1, 2); result = 3; }
	else return 0;
	bpf_iter_num_destroy(&it);
	return result;
}
"""
)


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_iter_num_new")
def test_of_several_forms_of_a_function_the_one_is_used_that_is_there(backend: Backend, compile_spec: Compile) -> None:
    with compile_spec(FLAVORS).load() as obj:
        assert obj.programs["choose"].run(PACKET).retval == 3


VARIABLES = """
struct rq { int cpu; } __attribute__((preserve_access_index));
extern const struct rq runqueues __ksym;
extern const int bpf_prog_active __ksym;
extern const int nobody_has_this __ksym __weak;
static void *(*bpf_per_cpu_ptr)(const void *, u32) = (void *) 153;
static void *(*bpf_this_cpu_ptr)(const void *) = (void *) 154;
u64 cpu = 9, active = 9, missing = 9;
SEC("raw_tp") int read(void *ctx)
{
	struct rq *rq = bpf_per_cpu_ptr(&runqueues, 0);
	int *depth = bpf_this_cpu_ptr(&bpf_prog_active);
	if (rq) cpu = rq->cpu;
	active = *depth;
	missing = (u64)&nobody_has_this;
	return 0;
}
"""


@pytest.mark.needs("btf_name:bpf_prog_active")
def test_variables_with_a_type_are_their_ids_and_missing_weak_ones_0(backend: Backend, compile_spec: Compile) -> None:
    loads = [i for i in resolved(backend, compile_spec(VARIABLES), "read") if i.opcode == 0x18 and not i.reference]
    ids = [found.id for name in ("runqueues", "bpf_prog_active") if (found := vmlinux().find(name, Var)) is not None]
    assert [(i.src, i.imm) for i in loads] == [(3, ids[0]), (3, ids[1]), (0, 0)]


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_prog_active")
def test_a_program_reads_variables_of_the_kernel(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(VARIABLES)
    if not any(name == "runqueues" for _, name in backend.host.kallsyms()):
        # The kernel knew the variable by its id, but it can only tell addresses of functions (no CONFIG_KALLSYMS_ALL).
        with pytest.raises(VerifierError, match="failed to find the address for kernel symbol 'runqueues'"):
            spec.load()
        return
    with spec.load() as obj:
        obj.programs["read"].run(ctx=bytes(16))
        assert (obj.variables["cpu"].value, obj.variables["missing"].value) == (0, 0)
        assert obj.variables["active"].value < 9


ADDRESSES = """
extern const void do_exit __ksym;
extern const void nobody_has_that __ksym __weak;
u64 address = 9, missing = 9;
SEC("tc") int read(void *ctx) { address = (u64)&do_exit; missing = (u64)&nobody_has_that; return 0; }
"""


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("capability:CAP_SYS_ADMIN", "file:/proc/kallsyms")
def test_symbols_without_a_type_are_addresses(backend: Backend, compile_spec: Compile) -> None:
    with compile_spec(ADDRESSES).load() as obj:
        obj.programs["read"].run(PACKET)
        assert str(rawbpf.ksym(obj.variables["address"].value)) == "do_exit"
        assert obj.variables["missing"].value == 0


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("capability:CAP_SYS_ADMIN", "file:/proc/kallsyms")
def test_a_name_of_several_symbols_is_no_address(backend: Backend, compile_spec: Compile) -> None:
    seen: dict[str, set[int]] = {}
    for address, symbol in backend.host.kallsyms():
        seen.setdefault(symbol, set()).add(address)
    name = next(symbol for symbol, addresses in seen.items() if len(addresses) > 1 and symbol.isidentifier())
    spec = compile_spec(f'extern const void {name} __ksym; SEC("tc") int f(void *c) {{ return (long)&{name}; }}')
    with pytest.raises(SpecError, match=rf"'{name}' is the name of several things, at 0x[0-9a-f]+, 0x"):
        spec.load()


REFUSALS = [
    pytest.param(
        "extern int bpf_iter_num_nex(void *it) __ksym;",
        "return bpf_iter_num_nex(ctx);",
        NotFound,
        r"function bpf_iter_num_nex( \[sim\])?: ENOENT: neither the kernel's BTF nor that of a module has a function "
        r"'bpf_iter_num_nex'; did you mean .*\bbpf_iter_num_next\b.* declare it __weak",
        id="no such function",
    ),
    pytest.param(
        "extern const int bpf_prog_activ __ksym;",
        "return (long)&bpf_prog_activ;",
        NotFound,
        r"has a variable 'bpf_prog_activ'; did you mean .*\bbpf_prog_active\b",
        id="no such variable",
    ),
    pytest.param(
        "extern const void nobody_has_that __ksym;",
        "return (long)&nobody_has_that;",
        NotFound,
        r"symbol nobody_has_that( \[sim\])?: ENOENT: the kernel's table of symbols has no 'nobody_has_that'",
        id="no such symbol",
    ),
    pytest.param(
        "extern int bpf_iter_num_next(void *it, int more) __ksym;",
        "return bpf_iter_num_next(ctx, 1);",
        SpecError,
        r"kernel symbol 'bpf_iter_num_next': the object declares 'int bpf_iter_num_next\(void \*, int\)', "
        r"and what the kernel has is 'int \*bpf_iter_num_next\(struct bpf_iter_num \*it\)'",
        id="another prototype",
    ),
    pytest.param(
        "struct bpf_iter_num; extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;",
        "return !bpf_iter_num_next(ctx);",
        SpecError,
        r"bpf_iter_num \*it\)': there the object has to define 'struct bpf_iter_num', if only as \{\}",
        id="a struct that is only declared",
    ),
    pytest.param(
        "struct mine { int a; }; extern const struct mine bpf_prog_active __ksym __weak;",
        "return (long)&bpf_prog_active;",
        SpecError,
        r"the object declares 'struct mine bpf_prog_active', and what the kernel has is 'int bpf_prog_active'",
        id="another type, also of a weak variable",
    ),
    pytest.param(
        "struct rq; extern const struct rq runqueues __ksym;",
        "return (long)&runqueues;",
        SpecError,
        r"kernel symbol 'runqueues': the object declares 'struct rq runqueues' of a type that it does not define",
        id="a type that is not defined",
    ),
]


@pytest.mark.needs("btf_name:bpf_iter_num_new")
@pytest.mark.parametrize(("declaration", "use", "error", "text"), REFUSALS)
def test_what_the_kernel_has_not_or_has_otherwise_is_refused(
    backend: Backend, compile_spec: Compile, declaration: str, use: str, error: type[Exception], text: str
) -> None:
    spec = compile_spec(f'{declaration} SEC("tc") int f(void *ctx) {{ {use} }}')
    with pytest.raises(error, match=text):
        spec.load()


def test_what_no_loaded_program_refers_to_is_not_looked_for(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(
        """
extern int bpf_no_such_function(void) __ksym;
SEC("tc") int good(void *ctx) { return 0; }
SEC("tc") int bad(void *ctx) { return bpf_no_such_function(); }
"""
    )
    with spec.load(only=["good"]) as obj:
        assert list(obj.programs) == ["good"]


@pytest.mark.needs("btf_name:bpf_iter_num_new")
def test_copies_and_pickles_find_the_same(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(SUM)
    expected = resolved(backend, spec, "loop")
    for each in (spec.copy(), pickle.loads(pickle.dumps(spec))):
        assert resolved(backend, each, "loop") == expected


@pytest.mark.real_kernel("programs run there only")
@pytest.mark.needs("btf_name:bpf_rcu_read_lock")
def test_programs_may_be_edited_to_call_what_the_object_does_not_declare(
    backend: Backend, compile_spec: Compile
) -> None:
    spec = compile_spec('SEC("tc") int f(void *ctx) { return 4; }')
    calls = [build.call_kernel("bpf_rcu_read_lock"), build.call_kernel("bpf_rcu_read_unlock")]
    # Behind the first instruction, at which the function begins.
    spec.programs["f"].instructions[1:1] = [*calls, build.mov_imm(0, 4)]
    with spec.load() as obj:
        assert obj.programs["f"].run(PACKET).retval == 4


@pytest.mark.parametrize(
    ("source", "text"),
    [
        pytest.param("extern int elsewhere(int); int", "elsewhere(1)", id="a function of another object"),
        pytest.param("extern int counter; int", "counter", id="a variable of another object"),
        pytest.param("extern int elsewhere(int) __weak; int", "elsewhere(1)", id="a weak function of another object"),
    ],
)
def test_what_is_neither_defined_nor_the_kernels_is_refused_with_what_to_do(
    compile_spec: Compile, source: str, text: str
) -> None:
    name = text.partition("(")[0]
    with pytest.raises(SpecError, match=rf"'{name}', which is not defined in this object: .* __ksym .* link"):
        rawbpf.relocate(compile_spec(f'{source.removesuffix("int")} SEC("tc") int f(void *ctx) {{ return {text}; }}'))


@pytest.mark.real_kernel("programs run there only")
def test_weak_and_hidden_functions_of_the_object_are_its_own(backend: Backend, compile_spec: Compile) -> None:
    spec = compile_spec(
        """
__weak __noinline int twice(int x) { return x * 2; }
__hidden __noinline int thrice(int *x) { return *x * 3; }
SEC("tc") int f(void *ctx) { int five = 5; return twice(4) + thrice(&five); }
"""
    )
    assert set(spec._content.functions) == {"twice", "thrice"}
    assert not spec._content.ksyms
    with spec.load() as obj:
        assert obj.programs["f"].run(PACKET).retval == 23
