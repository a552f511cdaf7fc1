"""The first release of Linux that has a command, map type, program type or helper, as far as it is certain.

For messages, documentation and tests only: what a kernel can do is probed, since distributions backport.
Names as in `names`. A name that is missing is not known for sure.

Source: the history of include/uapi/linux/bpf.h, v3.18 to v6.18.
"""

from __future__ import annotations


def _table(text: str) -> dict[str, str]:
    rows = (line.split() for line in text.strip().splitlines())
    return {name: release for release, *names in rows for name in names}


COMMANDS = _table("""
3.18 map_create map_lookup_elem map_update_elem map_delete_elem map_get_next_key prog_load
4.4 obj_pin obj_get
4.10 prog_attach prog_detach
4.12 prog_test_run
4.13 prog_get_next_id map_get_next_id prog_get_fd_by_id map_get_fd_by_id obj_get_info_by_fd
4.15 prog_query
4.17 raw_tracepoint_open
4.18 btf_load btf_get_fd_by_id task_fd_query
4.20 map_lookup_and_delete_elem
5.2 map_freeze
5.4 btf_get_next_id
5.6 map_lookup_batch map_lookup_and_delete_batch map_update_batch map_delete_batch
5.7 link_create link_update
5.8 link_get_fd_by_id link_get_next_id enable_stats iter_create
5.9 link_detach
5.10 prog_bind_map
6.9 token_create
6.17 prog_stream_read_by_fd
""")

MAP_TYPES = _table("""
3.19 hash array
4.2 prog_array
4.3 perf_event_array
4.6 percpu_hash percpu_array stack_trace
4.8 cgroup_array
4.10 lru_hash lru_percpu_hash
4.11 lpm_trie
4.12 array_of_maps hash_of_maps
4.14 devmap sockmap
4.15 cpumap
4.18 xskmap sockhash
4.19 cgroup_storage reuseport_sockarray
4.20 percpu_cgroup_storage queue stack
5.2 sk_storage
5.4 devmap_hash
5.6 struct_ops
5.8 ringbuf
5.10 inode_storage
5.11 task_storage
5.16 bloom_filter
6.1 user_ringbuf
6.2 cgrp_storage
6.9 arena
6.19 insn_array
""")

PROG_TYPES = _table("""
3.19 socket_filter
4.1 kprobe sched_cls sched_act
4.7 tracepoint
4.8 xdp
4.9 perf_event
4.10 cgroup_skb cgroup_sock lwt_in lwt_out lwt_xmit
4.13 sock_ops
4.14 sk_skb
4.15 cgroup_device
4.17 sk_msg raw_tracepoint cgroup_sock_addr
4.18 lwt_seg6local lirc_mode2
4.19 sk_reuseport
4.20 flow_dissector
5.2 cgroup_sysctl raw_tracepoint_writable
5.3 cgroup_sockopt
5.5 tracing
5.6 struct_ops ext
5.7 lsm
5.9 sk_lookup
5.14 syscall
6.4 netfilter
""")

# The first number of the helpers that came with a release: numbers were handed out in order.
_HELPERS = _table("""
3.19 1
4.1 4
4.2 12
4.3 17
4.4 23
4.5 26
4.6 27
4.8 31
4.9 37
4.10 42
4.11 45
4.12 46
4.13 48
4.14 51
4.15 54
4.16 58
4.17 60
4.18 65
4.19 81
4.20 84
5.0 91
5.1 93
5.2 99
5.3 109
5.4 110
5.5 111
5.6 116
5.7 119
5.8 125
5.9 136
5.10 142
5.11 156
5.12 163
5.13 164
5.14 166
5.15 169
5.16 176
5.17 180
5.18 186
5.19 194
6.0 204
6.1 208
6.2 210
""")
_LAST_HELPER = 211
_UNSURE = 119  # bpf_read_branch_records: sources differ between 5.6 and 5.7


def helper(number: int) -> str | None:
    """Return the release that brought the helper with this number; None if it is not known."""
    if not 1 <= number <= _LAST_HELPER or number == _UNSURE:
        return None
    return [release for first, release in _HELPERS.items() if int(first) <= number][-1]
