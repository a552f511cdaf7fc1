"""Words for the kernel's numbers and numbers for words: `1` is the map type `hash`.

A word is the constant's name without its prefix, in lower case. Light: tuples of strings, built
once. Must not import the enums.

Source: include/uapi/linux/bpf.h at v6.18.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CMDS = _words(
    "map_create map_lookup_elem map_update_elem map_delete_elem map_get_next_key prog_load obj_pin obj_get "
    "prog_attach prog_detach prog_test_run prog_get_next_id map_get_next_id prog_get_fd_by_id map_get_fd_by_id "
    "obj_get_info_by_fd prog_query raw_tracepoint_open btf_load btf_get_fd_by_id task_fd_query "
    "map_lookup_and_delete_elem map_freeze btf_get_next_id map_lookup_batch map_lookup_and_delete_batch "
    "map_update_batch map_delete_batch link_create link_update link_get_fd_by_id link_get_next_id enable_stats "
    "iter_create link_detach prog_bind_map token_create prog_stream_read_by_fd"
)

_MAP_TYPES = _words(
    "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash "
    "lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage "
    "reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage "
    "task_storage bloom_filter user_ringbuf cgrp_storage arena insn_array"
)

_PROG_TYPES = _words(
    "unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out "
    "lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2 "
    "sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm "
    "sk_lookup syscall netfilter"
)

_ATTACH_TYPES = _words(
    "cgroup_inet_ingress cgroup_inet_egress cgroup_inet_sock_create cgroup_sock_ops sk_skb_stream_parser "
    "sk_skb_stream_verdict cgroup_device sk_msg_verdict cgroup_inet4_bind cgroup_inet6_bind cgroup_inet4_connect "
    "cgroup_inet6_connect cgroup_inet4_post_bind cgroup_inet6_post_bind cgroup_udp4_sendmsg cgroup_udp6_sendmsg "
    "lirc_mode2 flow_dissector cgroup_sysctl cgroup_udp4_recvmsg cgroup_udp6_recvmsg cgroup_getsockopt "
    "cgroup_setsockopt trace_raw_tp trace_fentry trace_fexit modify_return lsm_mac trace_iter cgroup_inet4_getpeername "
    "cgroup_inet6_getpeername cgroup_inet4_getsockname cgroup_inet6_getsockname xdp_devmap cgroup_inet_sock_release "
    "xdp_cpumap sk_lookup xdp sk_skb_verdict sk_reuseport_select sk_reuseport_select_or_migrate perf_event "
    "trace_kprobe_multi lsm_cgroup struct_ops netfilter tcx_ingress tcx_egress trace_uprobe_multi cgroup_unix_connect "
    "cgroup_unix_sendmsg cgroup_unix_recvmsg cgroup_unix_getpeername cgroup_unix_getsockname netkit_primary "
    "netkit_peer trace_kprobe_session trace_uprobe_session"
)

_LINK_TYPES = _words(
    "unspec raw_tracepoint tracing cgroup iter netns xdp perf_event kprobe_multi struct_ops netfilter tcx "
    "uprobe_multi netkit sockmap"
)

# Other words that users know for the same numbers: the header's newer names and libbpf's.
_CMD_ALIASES = {"prog_run": "prog_test_run"}
_MAP_TYPE_ALIASES = {
    "perf_array": "perf_event_array",
    "cgroup_storage_deprecated": "cgroup_storage",
    "percpu_cgroup_storage_deprecated": "percpu_cgroup_storage",
    "bloom": "bloom_filter",
    "lpm": "lpm_trie",
}


def _name(words: tuple[str, ...], number: int, kind: str) -> str:
    return words[number] if 0 <= number < len(words) else f"{kind} {number}"


def _number(words: tuple[str, ...], word: str, kind: str, aliases: dict[str, str] | None = None) -> int:
    try:
        return words.index(aliases.get(word, word) if aliases else word)
    except ValueError:
        pass
    import difflib  # only for the message of a mistake: it costs milliseconds

    lower = word.lower()
    close = difflib.get_close_matches(lower, words, n=3) or [known for known in words if lower and lower in known][:3]
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(words)}"
    raise ValueError(f"no {kind} {word!r}: {hint}")


def cmd_name(number: int) -> str:
    """Return the word for a bpf command, such as `map_create`; `command 99` for an unknown one."""
    return _name(_CMDS, number, "command")


def cmd_number(word: str) -> int:
    """Return the number of a bpf command. Raises: ValueError that lists close names."""
    return _number(_CMDS, word, "bpf command", _CMD_ALIASES)


def map_type_name(number: int) -> str:
    """Return the word for a map type, such as `hash`; `type 77` for an unknown one."""
    return _name(_MAP_TYPES, number, "type")


def map_type_number(word: str) -> int:
    """Return the number of a map type. Raises: ValueError that lists close names."""
    return _number(_MAP_TYPES, word, "map type", _MAP_TYPE_ALIASES)


def prog_type_name(number: int) -> str:
    """Return the word for a program type, such as `xdp`; `type 77` for an unknown one."""
    return _name(_PROG_TYPES, number, "type")


def prog_type_number(word: str) -> int:
    """Return the number of a program type. Raises: ValueError that lists close names."""
    return _number(_PROG_TYPES, word, "program type")


def attach_type_name(number: int) -> str:
    """Return the word for an attach type, such as `trace_fentry`; `type 77` for an unknown one."""
    return _name(_ATTACH_TYPES, number, "type")


def attach_type_number(word: str) -> int:
    """Return the number of an attach type. Raises: ValueError that lists close names."""
    return _number(_ATTACH_TYPES, word, "attach type")


def link_type_name(number: int) -> str:
    """Return the word for a link type, such as `perf_event`; `type 77` for an unknown one."""
    return _name(_LINK_TYPES, number, "type")


def link_type_number(word: str) -> int:
    """Return the number of a link type. Raises: ValueError that lists close names."""
    return _number(_LINK_TYPES, word, "link type")
