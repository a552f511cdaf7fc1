"""`union bpf_attr`, one layout per command.

A field's name is the kernel's; a field of a named inner struct carries that struct's name in front
(`kprobe_multi_flags`). Commands that share a struct list only the fields that they read or write.
Must not know any kernel, or which values make sense.

Source: include/uapi/linux/bpf.h:union bpf_attr at v6.18; a test compares every field with the
running kernel's BTF.
"""

from __future__ import annotations

from rawbpf.uapi import constants as c
from rawbpf.uapi.layout import ATTR_SIZE, Layout

__all__ = ["ATTR_SIZE", "LAYOUTS", "Layout"]

_ELEM = (
    ("map_fd", 0, "I"),
    ("key", 8, "Q"),
    ("value", 16, "Q"),
    ("flags", 24, "Q"),
)
_OBJ = (
    ("pathname", 0, "Q"),
    ("bpf_fd", 8, "I"),
    ("file_flags", 12, "I"),
    ("path_fd", 16, "i"),
)
_ATTACH = (
    ("target_fd", 0, "I"),
    ("target_ifindex", 0, "I"),
    ("attach_bpf_fd", 4, "I"),
    ("attach_type", 8, "I"),
    ("attach_flags", 12, "I"),
    ("replace_bpf_fd", 16, "I"),
    ("relative_fd", 20, "I"),
    ("relative_id", 20, "I"),
    ("expected_revision", 24, "Q"),
)
_NEXT_ID = (
    ("start_id", 0, "I"),
    ("next_id", 4, "I"),
)
_BATCH = (
    ("in_batch", 0, "Q"),
    ("out_batch", 8, "Q"),
    ("keys", 16, "Q"),
    ("values", 24, "Q"),
    ("count", 32, "I"),
    ("map_fd", 36, "I"),
    ("elem_flags", 40, "Q"),
    ("flags", 48, "Q"),
)
MAP_CREATE = Layout(
    "map_create",
    (
        ("map_type", 0, "I"),
        ("key_size", 4, "I"),
        ("value_size", 8, "I"),
        ("max_entries", 12, "I"),
        ("map_flags", 16, "I"),
        ("inner_map_fd", 20, "I"),
        ("numa_node", 24, "I"),
        ("map_name", 28, "16s"),
        ("map_ifindex", 44, "I"),
        ("btf_fd", 48, "I"),
        ("btf_key_type_id", 52, "I"),
        ("btf_value_type_id", 56, "I"),
        ("btf_vmlinux_value_type_id", 60, "I"),
        ("map_extra", 64, "Q"),
        ("value_type_btf_obj_fd", 72, "i"),
        ("map_token_fd", 76, "i"),
        ("excl_prog_hash", 80, "Q"),
        ("excl_prog_hash_size", 88, "I"),
    ),
    "max_entries",
    c.BPF_MAP_CREATE,
)
MAP_LOOKUP_ELEM = Layout("map_lookup_elem", _ELEM, "flags", c.BPF_MAP_LOOKUP_ELEM)
MAP_UPDATE_ELEM = Layout("map_update_elem", _ELEM, "flags", c.BPF_MAP_UPDATE_ELEM)
MAP_DELETE_ELEM = Layout(
    "map_delete_elem",
    (
        ("map_fd", 0, "I"),
        ("key", 8, "Q"),
    ),
    "key",
    c.BPF_MAP_DELETE_ELEM,
)
MAP_GET_NEXT_KEY = Layout(
    "map_get_next_key",
    (
        ("map_fd", 0, "I"),
        ("key", 8, "Q"),
        ("next_key", 16, "Q"),
    ),
    "next_key",
    c.BPF_MAP_GET_NEXT_KEY,
)
PROG_LOAD = Layout(
    "prog_load",
    (
        ("prog_type", 0, "I"),
        ("insn_cnt", 4, "I"),
        ("insns", 8, "Q"),
        ("license", 16, "Q"),
        ("log_level", 24, "I"),
        ("log_size", 28, "I"),
        ("log_buf", 32, "Q"),
        ("kern_version", 40, "I"),
        ("prog_flags", 44, "I"),
        ("prog_name", 48, "16s"),
        ("prog_ifindex", 64, "I"),
        ("expected_attach_type", 68, "I"),
        ("prog_btf_fd", 72, "I"),
        ("func_info_rec_size", 76, "I"),
        ("func_info", 80, "Q"),
        ("func_info_cnt", 88, "I"),
        ("line_info_rec_size", 92, "I"),
        ("line_info", 96, "Q"),
        ("line_info_cnt", 104, "I"),
        ("attach_btf_id", 108, "I"),
        ("attach_prog_fd", 112, "I"),
        ("attach_btf_obj_fd", 112, "I"),
        ("core_relo_cnt", 116, "I"),
        ("fd_array", 120, "Q"),
        ("core_relos", 128, "Q"),
        ("core_relo_rec_size", 136, "I"),
        ("log_true_size", 140, "I"),
        ("prog_token_fd", 144, "i"),
        ("fd_array_cnt", 148, "I"),
        ("signature", 152, "Q"),
        ("signature_size", 160, "I"),
        ("keyring_id", 164, "i"),
    ),
    "log_buf",
    c.BPF_PROG_LOAD,
)
OBJ_PIN = Layout("obj_pin", _OBJ, "bpf_fd", c.BPF_OBJ_PIN)
OBJ_GET = Layout("obj_get", _OBJ, "bpf_fd", c.BPF_OBJ_GET)
PROG_ATTACH = Layout("prog_attach", _ATTACH, "attach_type", c.BPF_PROG_ATTACH)
PROG_DETACH = Layout("prog_detach", _ATTACH, "attach_type", c.BPF_PROG_DETACH)
PROG_TEST_RUN = Layout(
    "prog_test_run",
    (
        ("prog_fd", 0, "I"),
        ("retval", 4, "I"),
        ("data_size_in", 8, "I"),
        ("data_size_out", 12, "I"),
        ("data_in", 16, "Q"),
        ("data_out", 24, "Q"),
        ("repeat", 32, "I"),
        ("duration", 36, "I"),
        ("ctx_size_in", 40, "I"),
        ("ctx_size_out", 44, "I"),
        ("ctx_in", 48, "Q"),
        ("ctx_out", 56, "Q"),
        ("flags", 64, "I"),
        ("cpu", 68, "I"),
        ("batch_size", 72, "I"),
    ),
    "duration",
    c.BPF_PROG_TEST_RUN,
)
PROG_GET_NEXT_ID = Layout("prog_get_next_id", _NEXT_ID, "next_id", c.BPF_PROG_GET_NEXT_ID)
MAP_GET_NEXT_ID = Layout("map_get_next_id", _NEXT_ID, "next_id", c.BPF_MAP_GET_NEXT_ID)
PROG_GET_FD_BY_ID = Layout("prog_get_fd_by_id", (("prog_id", 0, "I"),), "prog_id", c.BPF_PROG_GET_FD_BY_ID)
MAP_GET_FD_BY_ID = Layout(
    "map_get_fd_by_id",
    (
        ("map_id", 0, "I"),
        ("open_flags", 8, "I"),
    ),
    "map_id",
    c.BPF_MAP_GET_FD_BY_ID,
)
OBJ_GET_INFO_BY_FD = Layout(
    "obj_get_info_by_fd",
    (
        ("bpf_fd", 0, "I"),
        ("info_len", 4, "I"),
        ("info", 8, "Q"),
    ),
    "info",
    c.BPF_OBJ_GET_INFO_BY_FD,
)
PROG_QUERY = Layout(
    "prog_query",
    (
        ("target_fd", 0, "I"),
        ("target_ifindex", 0, "I"),
        ("attach_type", 4, "I"),
        ("query_flags", 8, "I"),
        ("attach_flags", 12, "I"),
        ("prog_ids", 16, "Q"),
        ("prog_cnt", 24, "I"),
        ("count", 24, "I"),
        ("prog_attach_flags", 32, "Q"),
        ("link_ids", 40, "Q"),
        ("link_attach_flags", 48, "Q"),
        ("revision", 56, "Q"),
    ),
    "prog_cnt",
    c.BPF_PROG_QUERY,
)
RAW_TRACEPOINT_OPEN = Layout(
    "raw_tracepoint_open",
    (
        ("name", 0, "Q"),
        ("prog_fd", 8, "I"),
        ("cookie", 16, "Q"),
    ),
    "prog_fd",
    c.BPF_RAW_TRACEPOINT_OPEN,
)
BTF_LOAD = Layout(
    "btf_load",
    (
        ("btf", 0, "Q"),
        ("btf_log_buf", 8, "Q"),
        ("btf_size", 16, "I"),
        ("btf_log_size", 20, "I"),
        ("btf_log_level", 24, "I"),
        ("btf_log_true_size", 28, "I"),
        ("btf_flags", 32, "I"),
        ("btf_token_fd", 36, "i"),
    ),
    "btf_log_level",
    c.BPF_BTF_LOAD,
)
BTF_GET_FD_BY_ID = Layout(
    "btf_get_fd_by_id",
    (
        ("btf_id", 0, "I"),
        ("open_flags", 8, "I"),
        ("fd_by_id_token_fd", 12, "i"),
    ),
    "btf_id",
    c.BPF_BTF_GET_FD_BY_ID,
)
TASK_FD_QUERY = Layout(
    "task_fd_query",
    (
        ("pid", 0, "I"),
        ("fd", 4, "I"),
        ("flags", 8, "I"),
        ("buf_len", 12, "I"),
        ("buf", 16, "Q"),
        ("prog_id", 24, "I"),
        ("fd_type", 28, "I"),
        ("probe_offset", 32, "Q"),
        ("probe_addr", 40, "Q"),
    ),
    "probe_addr",
    c.BPF_TASK_FD_QUERY,
)
MAP_LOOKUP_AND_DELETE_ELEM = Layout("map_lookup_and_delete_elem", _ELEM, "value", c.BPF_MAP_LOOKUP_AND_DELETE_ELEM)
MAP_FREEZE = Layout("map_freeze", (("map_fd", 0, "I"),), "map_fd", c.BPF_MAP_FREEZE)
BTF_GET_NEXT_ID = Layout("btf_get_next_id", _NEXT_ID, "next_id", c.BPF_BTF_GET_NEXT_ID)
MAP_LOOKUP_BATCH = Layout("map_lookup_batch", _BATCH, "flags", c.BPF_MAP_LOOKUP_BATCH)
MAP_LOOKUP_AND_DELETE_BATCH = Layout("map_lookup_and_delete_batch", _BATCH, "flags", c.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
MAP_UPDATE_BATCH = Layout("map_update_batch", _BATCH, "flags", c.BPF_MAP_UPDATE_BATCH)
MAP_DELETE_BATCH = Layout("map_delete_batch", _BATCH, "flags", c.BPF_MAP_DELETE_BATCH)
LINK_CREATE = Layout(
    "link_create",
    (
        ("prog_fd", 0, "I"),
        ("map_fd", 0, "I"),
        ("target_fd", 4, "I"),
        ("target_ifindex", 4, "I"),
        ("attach_type", 8, "I"),
        ("flags", 12, "I"),
        ("target_btf_id", 16, "I"),
        ("iter_info", 16, "Q"),
        ("iter_info_len", 24, "I"),
        ("perf_event_bpf_cookie", 16, "Q"),
        ("kprobe_multi_flags", 16, "I"),
        ("kprobe_multi_cnt", 20, "I"),
        ("kprobe_multi_syms", 24, "Q"),
        ("kprobe_multi_addrs", 32, "Q"),
        ("kprobe_multi_cookies", 40, "Q"),
        ("tracing_target_btf_id", 16, "I"),
        ("tracing_cookie", 24, "Q"),
        ("netfilter_pf", 16, "I"),
        ("netfilter_hooknum", 20, "I"),
        ("netfilter_priority", 24, "i"),
        ("netfilter_flags", 28, "I"),
        ("tcx_relative_fd", 16, "I"),
        ("tcx_relative_id", 16, "I"),
        ("tcx_expected_revision", 24, "Q"),
        ("uprobe_multi_path", 16, "Q"),
        ("uprobe_multi_offsets", 24, "Q"),
        ("uprobe_multi_ref_ctr_offsets", 32, "Q"),
        ("uprobe_multi_cookies", 40, "Q"),
        ("uprobe_multi_cnt", 48, "I"),
        ("uprobe_multi_flags", 52, "I"),
        ("uprobe_multi_pid", 56, "I"),
        ("netkit_relative_fd", 16, "I"),
        ("netkit_relative_id", 16, "I"),
        ("netkit_expected_revision", 24, "Q"),
        ("cgroup_relative_fd", 16, "I"),
        ("cgroup_relative_id", 16, "I"),
        ("cgroup_expected_revision", 24, "Q"),
    ),
    "flags",
    c.BPF_LINK_CREATE,
)
LINK_UPDATE = Layout(
    "link_update",
    (
        ("link_fd", 0, "I"),
        ("new_prog_fd", 4, "I"),
        ("new_map_fd", 4, "I"),
        ("flags", 8, "I"),
        ("old_prog_fd", 12, "I"),
        ("old_map_fd", 12, "I"),
    ),
    "old_prog_fd",
    c.BPF_LINK_UPDATE,
)
LINK_GET_FD_BY_ID = Layout("link_get_fd_by_id", (("link_id", 0, "I"),), "link_id", c.BPF_LINK_GET_FD_BY_ID)
LINK_GET_NEXT_ID = Layout("link_get_next_id", _NEXT_ID, "next_id", c.BPF_LINK_GET_NEXT_ID)
ENABLE_STATS = Layout("enable_stats", (("type", 0, "I"),), "type", c.BPF_ENABLE_STATS)
ITER_CREATE = Layout(
    "iter_create",
    (
        ("link_fd", 0, "I"),
        ("flags", 4, "I"),
    ),
    "flags",
    c.BPF_ITER_CREATE,
)
LINK_DETACH = Layout("link_detach", (("link_fd", 0, "I"),), "link_fd", c.BPF_LINK_DETACH)
PROG_BIND_MAP = Layout(
    "prog_bind_map",
    (
        ("prog_fd", 0, "I"),
        ("map_fd", 4, "I"),
        ("flags", 8, "I"),
    ),
    "flags",
    c.BPF_PROG_BIND_MAP,
)
TOKEN_CREATE = Layout(
    "token_create",
    (
        ("flags", 0, "I"),
        ("bpffs_fd", 4, "I"),
    ),
    "bpffs_fd",
    c.BPF_TOKEN_CREATE,
)
PROG_STREAM_READ_BY_FD = Layout(
    "prog_stream_read_by_fd",
    (
        ("stream_buf", 0, "Q"),
        ("stream_buf_len", 8, "I"),
        ("stream_id", 12, "I"),
        ("prog_fd", 16, "I"),
    ),
    "prog_fd",
    c.BPF_PROG_STREAM_READ_BY_FD,
)

LAYOUTS: dict[int, Layout] = {
    layout.cmd: layout
    for layout in (
        MAP_CREATE,
        MAP_LOOKUP_ELEM,
        MAP_UPDATE_ELEM,
        MAP_DELETE_ELEM,
        MAP_GET_NEXT_KEY,
        PROG_LOAD,
        OBJ_PIN,
        OBJ_GET,
        PROG_ATTACH,
        PROG_DETACH,
        PROG_TEST_RUN,
        PROG_GET_NEXT_ID,
        MAP_GET_NEXT_ID,
        PROG_GET_FD_BY_ID,
        MAP_GET_FD_BY_ID,
        OBJ_GET_INFO_BY_FD,
        PROG_QUERY,
        RAW_TRACEPOINT_OPEN,
        BTF_LOAD,
        BTF_GET_FD_BY_ID,
        TASK_FD_QUERY,
        MAP_LOOKUP_AND_DELETE_ELEM,
        MAP_FREEZE,
        BTF_GET_NEXT_ID,
        MAP_LOOKUP_BATCH,
        MAP_LOOKUP_AND_DELETE_BATCH,
        MAP_UPDATE_BATCH,
        MAP_DELETE_BATCH,
        LINK_CREATE,
        LINK_UPDATE,
        LINK_GET_FD_BY_ID,
        LINK_GET_NEXT_ID,
        ENABLE_STATS,
        ITER_CREATE,
        LINK_DETACH,
        PROG_BIND_MAP,
        TOKEN_CREATE,
        PROG_STREAM_READ_BY_FD,
    )
}
"""The layout of each command, by its number."""
