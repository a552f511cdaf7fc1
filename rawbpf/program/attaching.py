"""Attaching a program: a method for each hook, each of which hands on to the hook's own file in `link`.

What a program is and how it comes to be is in `program`.
"""

from __future__ import annotations

from rawbpf.errors import SpecError
from rawbpf.syscall.descriptor import Descriptor
from rawbpf.uapi.names import attach_type_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.codec.descriptor import HasFileno
    from rawbpf.link.base import Link
    from rawbpf.link.cgroup import Cgroup
    from rawbpf.link.socket import Socket
    from rawbpf.link.xdp import Mode
    from rawbpf.spec.section import Section


class Attachable(Descriptor):
    """A program as something to attach; `attach()` does it by the section, the other methods by hook."""

    __slots__ = ("_attach_type", "_links", "_name", "_section", "_target")

    _attach_type: int
    # Where the object that owns the program keeps what is to be detached with it.
    _links: list[Link] | None
    _name: str
    _section: Section | None
    _target: str

    def _kept(self, link: Link) -> Link:
        link._program_name = self._name
        if self._links is not None:
            self._links.append(link)
        return link

    @property
    def section(self) -> str:
        """The section's name without a leading `?`; empty where there is none."""
        if self._section is None:
            return ""
        stem = self._section.pattern.removesuffix("+")
        return f"{stem}/{self._target}" if self._target else stem

    @property
    def attach_obstacle(self) -> str:
        """Why `attach()` cannot attach it; empty where it can."""
        from rawbpf.program.attach import obstacle

        return obstacle(self._section, self._target)

    def attach(self) -> Link:
        """Attach it where its section says, and return the link, which detaches when it is closed.

        Raises: SpecError where the section does not say enough (`attach_obstacle` tells why);
        otherwise as the method for that kind: `attach_tracepoint`, `attach_raw_tracepoint`, `attach_tracing`.
        """
        from rawbpf.program.attach import attach_by_section, obstacle

        why = obstacle(self._section, self._target)
        if why or self._section is None:
            raise SpecError(f"program {self._name!r} cannot be attached by its section: {why}")
        return attach_by_section(self, self._section, self._target)

    def attach_tracepoint(self, category: str, name: str, cookie: int = 0) -> Link:
        """Attach it to the tracepoint `category/name` and return the link.

        `cookie`: 64 bits that bpf_get_attach_cookie() gives the program.
        Raises: BpfError (ENOENT: no such tracepoint, the text has close names; EEXIST; EINVAL: a
        program of another type); PermissionDenied (EPERM); NotSupported for a `cookie` before Linux 5.15.
        Since: Linux 4.7. Source: kernel/bpf/syscall.c:bpf_perf_link_attach
        """
        from rawbpf.link.tracepoint import attach_tracepoint

        return self._kept(attach_tracepoint(self, category, name, cookie, backend=self._backend))

    def attach_raw_tracepoint(self, name: str, cookie: int = 0) -> Link:
        """Attach it to the raw tracepoint `name`, such as `sched_switch`, and return the link.

        `cookie`: 64 bits that bpf_get_attach_cookie() gives the program (since Linux 6.9).
        Raises: BpfError (ENOENT: no such tracepoint, the text has close names; EINVAL: a program of
        another type); PermissionDenied (EPERM).
        Since: Linux 4.17. Source: kernel/bpf/syscall.c:bpf_raw_tp_link_attach
        """
        from rawbpf.link.raw_tracepoint import attach_raw_tracepoint

        return self._kept(attach_raw_tracepoint(self, name, cookie, backend=self._backend))

    def attach_tracing(self, cookie: int = 0) -> Link:
        """Attach it to what it was loaded for (`tp_btf`, fentry, fexit, LSM) and return the link.

        `cookie`: 64 bits that bpf_get_attach_cookie() gives the program (since Linux 5.19).
        Raises: BpfError (EBUSY: it is attached already; EINVAL: a program of another type);
        PermissionDenied (EPERM).
        Since: Linux 5.5. Source: kernel/bpf/syscall.c:bpf_tracing_prog_attach
        """
        from rawbpf.link.tracing import attach_tracing

        where = self.section or f"program {self._name!r}"
        made = attach_tracing(self, cookie, target=where, attach_type=self._attach_type, backend=self._backend)
        return self._kept(made)

    def attach_sockmap(self, target: HasFileno, *, attach_type: str | int | None = None) -> Link:
        """Attach it to the sockets that will be stored in a sockmap or sockhash, and return the link.

        `target`: the map. A socket keeps the programs that it was stored with, also when the link is
        closed, until it leaves the map. `attach_type`: by default what the section says, as
        `sk_skb/stream_verdict` does; else a name such as `sk_skb_stream_verdict`.
        Raises: BpfError (EBUSY: the map has such a program by another link; EINVAL: a program or a map of
        another type); ValueError for an sk_skb program that does not say whether it parses or judges.
        Since: Linux 4.14; as a link object 6.10. Source: net/core/sock_map.c:sock_map_link_create
        """
        from rawbpf.link.sockmap import attach_sockmap

        kind = attach_type_number(attach_type) if isinstance(attach_type, str) else attach_type
        if kind is None:
            # Kernels that do not take it at load time (optional_type) take it here.
            kind = self._attach_type or (self._section.expected_attach_type if self._section else 0)
        return self._kept(attach_sockmap(self, target, attach_type=kind, backend=self._backend))

    def attach_socket(self, socket: Socket) -> Link:
        """Attach it as the filter of what a socket receives, in place of one that is there; return the attachment.

        It returns how many bytes of a packet are kept; 0 drops it. Close the attachment before the socket.
        Raises: BpfError (EINVAL: a program of another type); PermissionDenied (EPERM: the filter is locked
        by SO_LOCK_FILTER); TypeError for what is no socket. Since: Linux 3.19. Source: net/core/filter.c:sk_attach_bpf
        """
        from rawbpf.link.socket import attach_socket

        return self._kept(attach_socket(self, socket, backend=self._backend))

    def attach_reuseport(self, socket: Socket) -> Link:
        """Attach it to the sockets that share the port of `socket`, to select among them; return the attachment.

        `socket`: any of them; close the attachment before it. Of type sk_reuseport it selects by a
        reuseport_sockarray, of type socket_filter it returns a socket's number in the order of binding.
        Raises: BpfError (EINVAL: a program of another type, or a socket bound without SO_REUSEPORT);
        PermissionDenied (EPERM: the filter is locked); NotSupported for other sockets than TCP and UDP;
        TypeError for what is no socket. Since: Linux 4.5. Source: net/core/filter.c:sk_reuseport_attach_bpf
        """
        from rawbpf.link.socket import attach_reuseport

        return self._kept(attach_reuseport(self, socket, backend=self._backend))

    def attach_xdp(self, interface: str | int, *, mode: Mode | None = None) -> Link:
        """Attach it to a network interface, by name or index, and return the link.

        `mode`: `"skb"` works with any driver, `"driver"` is faster and `"offload"` runs on the card, where
        the driver has it; None lets the kernel choose. The link's `update()` exchanges the program.
        Raises: BpfError (ENODEV: no such interface, the text has close names; EBUSY, EEXIST: another
        program is there, which the text names; EINVAL: a program of another type); NotSupported
        (EOPNOTSUPP: the driver has no such mode); ValueError for another mode.
        Since: Linux 5.9. Source: net/core/dev.c:bpf_xdp_link_attach
        """
        from rawbpf.link.xdp import attach_xdp

        made = attach_xdp(self, interface, mode=mode, attach_type=self._attach_type, backend=self._backend)
        return self._kept(made)

    def attach_cgroup(self, cgroup: Cgroup, *, attach_type: str | int | None = None) -> Link:
        """Attach it to a cgroup, by the path of its directory or as that directory open, and return the link.

        It runs for the processes in the cgroup and in those below. `attach_type`: a word such as
        `cgroup_inet_egress`, or its number; None takes what the program was loaded for.
        Raises: BpfError (ENOENT: no such cgroup; EBADF: no cgroup, or one of version 1; EINVAL: a program of
        another type, or for another place; E2BIG); PermissionDenied (EPERM: also where another program is
        alone there, which the text names); TypeError where the program does not say for which place it is.
        Since: Linux 4.10, as a link since 5.7. Source: kernel/bpf/cgroup.c:cgroup_bpf_link_attach
        """
        from rawbpf.link.cgroup import attach_cgroup

        place = attach_type_number(attach_type) if isinstance(attach_type, str) else attach_type
        if place is None and (self._attach_type or self.section == "cgroup_skb/ingress"):
            place = self._attach_type
        return self._kept(attach_cgroup(self, cgroup, place, backend=self._backend))
