"""What OBJ_GET_INFO_BY_FD fills in: `struct bpf_map_info` and its relatives, one layout each.

Where the kernel's info ends earlier than a layout, it is older; what it lacks reads as 0. Pointers and
counts are also handed in: they say where arrays shall go. Must not know any kernel.

Source: include/uapi/linux/bpf.h at v6.18; a test compares every field with the running kernel's BTF.
"""

from __future__ import annotations

from rawbpf.uapi import constants as c
from rawbpf.uapi.layout import Layout

MAP_INFO = Layout(
    "bpf_map_info",
    (
        ("type", 0, "I"),
        ("id", 4, "I"),
        ("key_size", 8, "I"),
        ("value_size", 12, "I"),
        ("max_entries", 16, "I"),
        ("map_flags", 20, "I"),
        ("name", 24, "16s"),
        ("ifindex", 40, "I"),
        ("btf_vmlinux_value_type_id", 44, "I"),
        ("netns_dev", 48, "Q"),
        ("netns_ino", 56, "Q"),
        ("btf_id", 64, "I"),
        ("btf_key_type_id", 68, "I"),
        ("btf_value_type_id", 72, "I"),
        ("btf_vmlinux_id", 76, "I"),
        ("map_extra", 80, "Q"),
        ("hash", 88, "Q"),
        ("hash_size", 96, "I"),
    ),
    "map_flags",
)
# gpl_compatible is a bit field: any value but 0 is true, in either byte order.
PROG_INFO = Layout(
    "bpf_prog_info",
    (
        ("type", 0, "I"),
        ("id", 4, "I"),
        ("tag", 8, "8s"),
        ("jited_prog_len", 16, "I"),
        ("xlated_prog_len", 20, "I"),
        ("jited_prog_insns", 24, "Q"),
        ("xlated_prog_insns", 32, "Q"),
        ("load_time", 40, "Q"),
        ("created_by_uid", 48, "I"),
        ("nr_map_ids", 52, "I"),
        ("map_ids", 56, "Q"),
        ("name", 64, "16s"),
        ("ifindex", 80, "I"),
        ("gpl_compatible", 84, "I"),
        ("netns_dev", 88, "Q"),
        ("netns_ino", 96, "Q"),
        ("nr_jited_ksyms", 104, "I"),
        ("nr_jited_func_lens", 108, "I"),
        ("jited_ksyms", 112, "Q"),
        ("jited_func_lens", 120, "Q"),
        ("btf_id", 128, "I"),
        ("func_info_rec_size", 132, "I"),
        ("func_info", 136, "Q"),
        ("nr_func_info", 144, "I"),
        ("nr_line_info", 148, "I"),
        ("line_info", 152, "Q"),
        ("jited_line_info", 160, "Q"),
        ("nr_jited_line_info", 168, "I"),
        ("line_info_rec_size", 172, "I"),
        ("jited_line_info_rec_size", 176, "I"),
        ("nr_prog_tags", 180, "I"),
        ("prog_tags", 184, "Q"),
        ("run_time_ns", 192, "Q"),
        ("run_cnt", 200, "Q"),
        ("recursion_misses", 208, "Q"),
        ("verified_insns", 216, "I"),
        ("attach_btf_obj_id", 220, "I"),
        ("attach_btf_id", 224, "I"),
    ),
    "xlated_prog_insns",
)
BTF_INFO = Layout(
    "bpf_btf_info",
    (
        ("btf", 0, "Q"),
        ("btf_size", 8, "I"),
        ("id", 12, "I"),
        ("name", 16, "Q"),
        ("name_len", 24, "I"),
        ("kernel_btf", 28, "I"),
    ),
    "id",
)

_LINK = (
    ("type", 0, "I"),
    ("id", 4, "I"),
    ("prog_id", 8, "I"),
)
LINK_INFO = Layout("bpf_link_info", _LINK, "prog_id")
"""What is common to all links; `type` says which of LINK_INFOS tells more."""

LINK_INFOS: dict[int, Layout] = {
    c.BPF_LINK_TYPE_RAW_TRACEPOINT: Layout(
        "bpf_link_info.raw_tracepoint",
        (
            *_LINK,
            ("tp_name", 16, "Q"),
            ("tp_name_len", 24, "I"),
            ("cookie", 32, "Q"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_TRACING: Layout(
        "bpf_link_info.tracing",
        (
            *_LINK,
            ("attach_type", 16, "I"),
            ("target_obj_id", 20, "I"),
            ("target_btf_id", 24, "I"),
            ("cookie", 32, "Q"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_CGROUP: Layout(
        "bpf_link_info.cgroup",
        (
            *_LINK,
            ("cgroup_id", 16, "Q"),
            ("attach_type", 24, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_ITER: Layout(
        "bpf_link_info.iter",
        (
            *_LINK,
            ("target_name", 16, "Q"),
            ("target_name_len", 24, "I"),
            ("map_map_id", 28, "I"),
            ("cgroup_cgroup_id", 32, "Q"),
            ("cgroup_order", 40, "I"),
            ("task_tid", 32, "I"),
            ("task_pid", 36, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_NETNS: Layout(
        "bpf_link_info.netns",
        (
            *_LINK,
            ("netns_ino", 16, "I"),
            ("attach_type", 20, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_XDP: Layout(
        "bpf_link_info.xdp",
        (
            *_LINK,
            ("ifindex", 16, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_STRUCT_OPS: Layout(
        "bpf_link_info.struct_ops",
        (
            *_LINK,
            ("map_id", 16, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_NETFILTER: Layout(
        "bpf_link_info.netfilter",
        (
            *_LINK,
            ("pf", 16, "I"),
            ("hooknum", 20, "I"),
            ("priority", 24, "i"),
            ("flags", 28, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_KPROBE_MULTI: Layout(
        "bpf_link_info.kprobe_multi",
        (
            *_LINK,
            ("addrs", 16, "Q"),
            ("count", 24, "I"),
            ("flags", 28, "I"),
            ("missed", 32, "Q"),
            ("cookies", 40, "Q"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_UPROBE_MULTI: Layout(
        "bpf_link_info.uprobe_multi",
        (
            *_LINK,
            ("path", 16, "Q"),
            ("offsets", 24, "Q"),
            ("ref_ctr_offsets", 32, "Q"),
            ("cookies", 40, "Q"),
            ("path_size", 48, "I"),
            ("count", 52, "I"),
            ("flags", 56, "I"),
            ("pid", 60, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_PERF_EVENT: Layout(
        "bpf_link_info.perf_event",
        (
            *_LINK,
            ("perf_type", 16, "I"),
            ("uprobe_file_name", 24, "Q"),
            ("uprobe_name_len", 32, "I"),
            ("uprobe_offset", 36, "I"),
            ("uprobe_cookie", 40, "Q"),
            ("uprobe_ref_ctr_offset", 48, "Q"),
            ("kprobe_func_name", 24, "Q"),
            ("kprobe_name_len", 32, "I"),
            ("kprobe_offset", 36, "I"),
            ("kprobe_addr", 40, "Q"),
            ("kprobe_missed", 48, "Q"),
            ("kprobe_cookie", 56, "Q"),
            ("tracepoint_tp_name", 24, "Q"),
            ("tracepoint_name_len", 32, "I"),
            ("tracepoint_cookie", 40, "Q"),
            ("event_config", 24, "Q"),
            ("event_type", 32, "I"),
            ("event_cookie", 40, "Q"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_TCX: Layout(
        "bpf_link_info.tcx",
        (
            *_LINK,
            ("ifindex", 16, "I"),
            ("attach_type", 20, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_NETKIT: Layout(
        "bpf_link_info.netkit",
        (
            *_LINK,
            ("ifindex", 16, "I"),
            ("attach_type", 20, "I"),
        ),
        "prog_id",
    ),
    c.BPF_LINK_TYPE_SOCKMAP: Layout(
        "bpf_link_info.sockmap",
        (
            *_LINK,
            ("map_id", 16, "I"),
            ("attach_type", 20, "I"),
        ),
        "prog_id",
    ),
}

TOKEN_INFO = Layout(
    "bpf_token_info",
    (("allowed_cmds", 0, "Q"), ("allowed_maps", 8, "Q"), ("allowed_progs", 16, "Q"), ("allowed_attachs", 24, "Q")),
    "allowed_attachs",
)
