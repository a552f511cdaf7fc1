"""A token stands in for capabilities: in a user namespace it makes maps, reads their types and loads objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.objects import native
from support.tokens import run_with_token

import rawbpf
from rawbpf.syscall.obj import btf_get_fd_by_id
from rawbpf.syscall.trace import Call, TraceBackend
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

REAL = pytest.mark.needs("kernel", "capability:CAP_SYS_ADMIN", "file:/proc/self/ns/user")


@pytest.mark.real_kernel("a token is of a user namespace of the running kernel")
@REAL
def test_a_token_makes_typed_maps_where_capabilities_count_for_nothing(backend: Backend) -> None:
    def container(token: int) -> str:
        refused = False
        try:
            rawbpf.HashMap.create(key="u32", value="u64", max_entries=1)
        except rawbpf.PermissionDenied as error:
            refused = "user namespace" in str(error)
        with rawbpf.HashMap.create(key="u32", value={"hits": "u32"}, max_entries=4, token=token) as m:
            m.update({1: {"hits": 5}})
            with (
                rawbpf.Map.from_fd(m.fileno()) as untyped,
                rawbpf.Map.from_fd(m.fileno(), token=token) as typed,
            ):
                return f"{refused} {m[1]} {untyped.value_type.name} {typed[1].hits}"

    assert run_with_token(container) == "True record(hits=5) u8[4] 5"


@pytest.mark.real_kernel("a token is of a user namespace of the running kernel")
@REAL
@pytest.mark.needs("module:elftools")
def test_a_token_loads_an_object(backend: Backend) -> None:
    def container(token: int) -> str:
        with rawbpf.ObjectSpec.from_file(native("execcount")).load(token=token) as obj:
            return f"{sorted(obj.programs)} {obj.maps['exec_count'].key_type.name}"

    assert run_with_token(container) == "['count_execve'] u32"


@pytest.mark.real_kernel("a token is of a user namespace of the running kernel")
@REAL
def test_a_token_allows_no_more_than_was_delegated(backend: Backend) -> None:
    def container(token: int) -> str:
        with rawbpf.Map.create("array", value=8, max_entries=1, token=token):
            pass
        try:
            rawbpf.HashMap.create(key=4, value=8, max_entries=1, token=token)
        except rawbpf.PermissionDenied as error:
            return error.call
        return "made"

    # A mask that lets arrays through among the map types, and MAP_CREATE among the commands.
    assert run_with_token(container, hex(1 << c.BPF_MAP_TYPE_ARRAY | 1 << c.BPF_MAP_CREATE)) == "map_create"


class _Token:
    # An object with a descriptor, as a file is.
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


@pytest.mark.needs("module:elftools")
@pytest.mark.parametrize("as_object", [False, True], ids=["number", "object"])
def test_the_token_is_handed_over_with_every_command_that_takes_it(backend: Backend, as_object: bool) -> None:
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    number = os.open("/", os.O_RDONLY)  # no token: the kernel must be asked and say so
    token = _Token(number) if as_object else number
    try:
        with pytest.raises(rawbpf.BpfError):
            rawbpf.HashMap.create(key="u32", value="u64", max_entries=1, token=token, backend=traced)
        with pytest.raises(rawbpf.BpfError):
            btf_get_fd_by_id(traced, 1, token_fd=number)
        with pytest.raises(rawbpf.BpfError):
            rawbpf.ObjectSpec.from_file(native("execcount")).load(token=token, backend=traced)
    finally:
        os.close(number)
    fields: dict[str, dict[str, int | bytes]] = {}
    for call in calls:
        fields.setdefault(str(call).partition("(")[2].partition(",")[0], call.fields)
    for command, descriptor, flags in (
        ("btf_load", "btf_token_fd", "btf_flags"),
        ("map_create", "map_token_fd", "map_flags"),
        ("btf_get_fd_by_id", "fd_by_id_token_fd", "open_flags"),
    ):
        assert fields[command][descriptor] == number
        flag = fields[command][flags]
        assert isinstance(flag, int)
        assert flag & c.BPF_F_TOKEN_FD


def test_prog_load_takes_the_token_as_well(backend: Backend) -> None:
    calls: list[Call] = []
    token = os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(rawbpf.BpfError):
            rawbpf.Program.load(
                "socket_filter",
                [rawbpf.asm.build.mov_imm(0, 0), rawbpf.asm.build.exit_()],
                token_fd=token,
                backend=TraceBackend(backend, calls.append),
            )
    finally:
        os.close(token)
    assert calls[0].fields["prog_token_fd"] == token
    flags = calls[0].fields["prog_flags"]
    assert isinstance(flags, int)
    assert flags & c.BPF_F_TOKEN_FD


@pytest.mark.parametrize("token", ["x", 1.5, True, object()])
def test_what_is_no_token_is_refused_before_any_call(backend: Backend, token: object) -> None:
    calls: list[Call] = []
    traced = TraceBackend(backend, calls.append)
    with pytest.raises(TypeError, match="token=: expected a descriptor"):
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=1, token=token, backend=traced)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="token=: expected a descriptor"):
        rawbpf.Map.from_id(1, token=token, backend=traced)  # type: ignore[arg-type]
    assert calls == []
