"""`struct perf_event_attr`, and the constants of perf events that BPF programs are attached to or write to.

Must not know any kernel, or how an event is opened.

Source: include/uapi/linux/perf_event.h at v6.18; a test compares with the running kernel's BTF.
"""

from __future__ import annotations

import sys

from rawbpf.uapi.layout import Layout

# enum perf_type_id
PERF_TYPE_HARDWARE = 0
PERF_TYPE_SOFTWARE = 1
PERF_TYPE_TRACEPOINT = 2
PERF_TYPE_HW_CACHE = 3
PERF_TYPE_RAW = 4
PERF_TYPE_BREAKPOINT = 5

# enum perf_hw_id
PERF_COUNT_HW_CPU_CYCLES = 0
PERF_COUNT_HW_INSTRUCTIONS = 1
PERF_COUNT_HW_CACHE_REFERENCES = 2
PERF_COUNT_HW_CACHE_MISSES = 3
PERF_COUNT_HW_BRANCH_INSTRUCTIONS = 4
PERF_COUNT_HW_BRANCH_MISSES = 5
PERF_COUNT_HW_BUS_CYCLES = 6
PERF_COUNT_HW_STALLED_CYCLES_FRONTEND = 7
PERF_COUNT_HW_STALLED_CYCLES_BACKEND = 8
PERF_COUNT_HW_REF_CPU_CYCLES = 9

# enum perf_sw_ids
PERF_COUNT_SW_CPU_CLOCK = 0
PERF_COUNT_SW_TASK_CLOCK = 1
PERF_COUNT_SW_PAGE_FAULTS = 2
PERF_COUNT_SW_CONTEXT_SWITCHES = 3
PERF_COUNT_SW_CPU_MIGRATIONS = 4
PERF_COUNT_SW_PAGE_FAULTS_MIN = 5
PERF_COUNT_SW_PAGE_FAULTS_MAJ = 6
PERF_COUNT_SW_ALIGNMENT_FAULTS = 7
PERF_COUNT_SW_EMULATION_FAULTS = 8
PERF_COUNT_SW_DUMMY = 9
PERF_COUNT_SW_BPF_OUTPUT = 10
PERF_COUNT_SW_CGROUP_SWITCHES = 11

# enum perf_event_sample_format, as far as BPF needs it
PERF_SAMPLE_IP = 1 << 0
PERF_SAMPLE_TID = 1 << 1
PERF_SAMPLE_TIME = 1 << 2
PERF_SAMPLE_ADDR = 1 << 3
PERF_SAMPLE_READ = 1 << 4
PERF_SAMPLE_CALLCHAIN = 1 << 5
PERF_SAMPLE_ID = 1 << 6
PERF_SAMPLE_CPU = 1 << 7
PERF_SAMPLE_PERIOD = 1 << 8
PERF_SAMPLE_STREAM_ID = 1 << 9
PERF_SAMPLE_RAW = 1 << 10

# enum perf_event_type: records in a perf buffer
PERF_RECORD_LOST = 2
PERF_RECORD_SAMPLE = 9
PERF_RECORD_LOST_SAMPLES = 13

# Macros: flags of perf_event_open(2)
PERF_FLAG_FD_NO_GROUP = 1 << 0
PERF_FLAG_FD_OUTPUT = 1 << 1
PERF_FLAG_PID_CGROUP = 1 << 2
PERF_FLAG_FD_CLOEXEC = 1 << 3

# Macros: ioctl(2) requests, made by _IO('$', n) and, for the last two, _IOW('$', n, __u32).
# Source: include/uapi/asm-generic/ioctl.h (v6.12); PowerPC has direction bits of its own.
PERF_EVENT_IOC_ENABLE = 0x2400
PERF_EVENT_IOC_DISABLE = 0x2401
PERF_EVENT_IOC_SET_BPF = 0x40042408
PERF_EVENT_IOC_PAUSE_OUTPUT = 0x40042409
PERF_EVENT_IOC_POWERPC = {
    PERF_EVENT_IOC_ENABLE: 0x20002400,
    PERF_EVENT_IOC_DISABLE: 0x20002401,
    PERF_EVENT_IOC_SET_BPF: 0x80042408,
    PERF_EVENT_IOC_PAUSE_OUTPUT: 0x80042409,
}
"""The same requests on PowerPC."""


def ioctl_request(request: int, machine: str) -> int:
    """Return one of the requests as `machine` has it, which `uname -m` names."""
    return PERF_EVENT_IOC_POWERPC[request] if machine.startswith("ppc") else request


PERF_EVENT_ATTR = Layout(
    "perf_event_attr",
    (
        ("type", 0, "I"),
        ("size", 4, "I"),
        ("config", 8, "Q"),
        ("sample_period", 16, "Q"),
        ("sample_freq", 16, "Q"),
        ("sample_type", 24, "Q"),
        ("read_format", 32, "Q"),
        ("flags", 40, "Q"),
        ("wakeup_events", 48, "I"),
        ("wakeup_watermark", 48, "I"),
        ("bp_type", 52, "I"),
        ("bp_addr", 56, "Q"),
        ("kprobe_func", 56, "Q"),
        ("uprobe_path", 56, "Q"),
        ("config1", 56, "Q"),
        ("bp_len", 64, "Q"),
        ("kprobe_addr", 64, "Q"),
        ("probe_offset", 64, "Q"),
        ("config2", 64, "Q"),
        ("branch_sample_type", 72, "Q"),
        ("sample_regs_user", 80, "Q"),
        ("sample_stack_user", 88, "I"),
        ("clockid", 92, "i"),
        ("sample_regs_intr", 96, "Q"),
        ("aux_watermark", 104, "I"),
        ("sample_max_stack", 108, "H"),
        ("aux_sample_size", 112, "I"),
        ("aux_action", 116, "I"),
        ("sig_data", 120, "Q"),
        ("config3", 128, "Q"),
    ),
    "config1",
)
"""`minimum` is PERF_ATTR_SIZE_VER0; `flags` is the word of bit fields, see `flag_word`."""

# The bit fields in the order of the struct.
_FLAGS: dict[str, tuple[int, int]] = {
    "disabled": (0, 1),
    "inherit": (1, 1),
    "pinned": (2, 1),
    "exclusive": (3, 1),
    "exclude_user": (4, 1),
    "exclude_kernel": (5, 1),
    "exclude_hv": (6, 1),
    "exclude_idle": (7, 1),
    "mmap": (8, 1),
    "comm": (9, 1),
    "freq": (10, 1),
    "inherit_stat": (11, 1),
    "enable_on_exec": (12, 1),
    "task": (13, 1),
    "watermark": (14, 1),
    "precise_ip": (15, 2),
    "mmap_data": (17, 1),
    "sample_id_all": (18, 1),
    "exclude_host": (19, 1),
    "exclude_guest": (20, 1),
    "exclude_callchain_kernel": (21, 1),
    "exclude_callchain_user": (22, 1),
    "mmap2": (23, 1),
    "comm_exec": (24, 1),
    "use_clockid": (25, 1),
    "context_switch": (26, 1),
    "write_backward": (27, 1),
    "namespaces": (28, 1),
    "ksymbol": (29, 1),
    "bpf_event": (30, 1),
    "aux_output": (31, 1),
    "cgroup": (32, 1),
    "text_poke": (33, 1),
    "build_id": (34, 1),
    "inherit_thread": (35, 1),
    "remove_on_exec": (36, 1),
    "sigtrap": (37, 1),
}


def flag_word(byteorder: str = sys.byteorder, **bits: int) -> int:
    """Return `flags` with these bit fields set, such as `disabled=1`; big-endian CPUs fill words from the top.

    Raises: TypeError for an unknown bit field; OverflowError for a value that does not fit.
    """
    word = 0
    for name, value in bits.items():
        if name not in _FLAGS:
            raise TypeError(f"perf_event_attr has no bit field {name!r}")
        start, width = _FLAGS[name]
        if value >> width:
            raise OverflowError(f"perf_event_attr.{name}: {value!r} does not fit {width} bits")
        word |= value << (start if byteorder == "little" else 64 - start - width)
    return word


def perf_event_attr(*, flags: int = 0, **values: int) -> bytes:
    """Return a `struct perf_event_attr` with its size set, as short as these values allow."""
    size = PERF_EVENT_ATTR.used(values)
    return PERF_EVENT_ATTR.pack(**values, flags=flags, size=size).raw[:size]
