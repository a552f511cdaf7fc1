"""Which helpers programs of which type may call, and which of them for the GPL only.

Programs of every type may call those of `_ALL`. Of types that attach in several ways, what the plainest may call is
listed. Source: the get_func_proto of each bpf_verifier_ops (v6.18), told by loading a program with each call; kinds
that such a kernel was not at hand for (lirc_mode2, ext, lsm, struct_ops) as their relatives.
"""

from __future__ import annotations

from rawbpf.uapi import since
from rawbpf.uapi.names import prog_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.sim.release import Release

_ALL = """
1-3 5-8 12 14-17 22 35 37 42 55 80 87-89 93-94 105-106 109 112-115 117-118 120 123 125 130-134 141 148-149 153-154
156-158 164-165 169-172 175-177 180-182 191 194-195 197-203 208-211
"""
_BY_TYPE = """
socket_filter: 25-26 46-47 68 122 136-140 160 178 196
kprobe tracepoint raw_tracepoint raw_tracepoint_writable: 4 25 27 45 67 173-174
sched_cls sched_act: 9-11 13 18-21 23-26 28-34 38-41 43 46-48 50 66 68-69 79 83-86 95-100 107-108 110 122 124
    135-140 151-152 155 160 163 178 192 196 204-207
xdp: 23 25 28 44 51 54 65 69 84-86 99-100 110 136-140 160 163 178 188-190 196 204-207
perf_event: 4 25 27 45 56 67 119 173-174
cgroup_skb: 25-26 46-47 68 79 81 83-86 95-99 107-108 122 128-129 136-140 160 178 196
cgroup_sock: 25 46 81 107 122 160 186-187
lwt_in: 24-26 28 33-34 39 73 136-140 160 178 196
lwt_out: 24-26 28 33-34 39 136-140 160 178 196
lwt_xmit: 9-11 13 20-21 23-26 28-30 33-34 38-41 43 73 135-140 160 178 196
sock_ops: 25 46 49 53 57 59 70 81 96 107-108 122 136-140 142-144 160 178 196
sk_skb: 9 25-26 38-39 43 46-47 50 52 72 84-86 99 136-140 160 178 196
cgroup_device: 25 81
sk_msg: 25 60-63 71 90-91 107-108 122 136-140 160 178 196
cgroup_sock_addr: 25 46 49 57 64 81 84-86 99 107-108 122 136-140 160 178 186-187 196
lwt_seg6local: 24-26 28 33-34 39 74-76 136-140 160 178 196
sk_reuseport: 26 46 68 82 160
flow_dissector: 26 136-140 160 178 196
cgroup_sysctl: 25 81 101-104 160
cgroup_sockopt: 25 81 96 107-108 122 186-187
tracing lsm ext struct_ops: 4 25 27 45-46 67 107-108 111 121 136-140 147 162 173-174 178 188 196
sk_lookup: 25 86 124 136-140 160 178 196
syscall: 4 25 27 45-46 67 107-108 111 121 136-140 147 162 166-168 173 178-179 188 196
netfilter:
lirc_mode2: 4 25 45 67 77-78 92
"""
_GPL_ONLY = """
4 6 22 25 27 35 45 55-56 67 69 100 110-115 119 121 158 163 165 169-173 175-177 191 204-207
"""


def _numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for word in text.split():
        first, _, last = word.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _rows() -> dict[int, frozenset[int]]:
    rows: dict[int, frozenset[int]] = {}
    for row in _BY_TYPE.replace("\n    ", " ").strip().splitlines():
        names, _, numbers = row.partition(":")
        rows.update(dict.fromkeys(map(prog_type_number, names.split()), _EVERY | _numbers(numbers)))
    return rows


_EVERY = _numbers(_ALL)
_ALLOWED = _rows()
_FOR_GPL = _numbers(_GPL_ONLY)
LAST = 211
"""The highest number of a helper."""


def is_known(release: Release, number: int) -> bool:
    """Return whether that release has a helper with this number at all."""
    return number <= LAST and release.reached(since.helper(number))


def may_call(prog_type: int, number: int) -> bool:
    """Return whether programs of this type may call the helper."""
    return number in _ALLOWED.get(prog_type, _EVERY)


def is_for_gpl(number: int) -> bool:
    """Return whether only programs with a license compatible with the GPL may call the helper."""
    return number in _FOR_GPL
