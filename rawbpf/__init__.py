"""eBPF from Python with nothing underneath but the kernel.

    load         an object file into the kernel: its maps, programs and variables as one Object
    ObjectSpec   what an object file defines, to look at and edit before it is loaded
    relocate     its instructions as they would be loaded
    Map          make or open a map (create, from_pin, from_id, from_name); HashMap, ArrayMap, ... are its classes
    Program      load or open a program, attach it (which returns a Link), run it
    maps, programs, links    what there is in the kernel, whoever made it
    features     what this kernel can do: map types, program types, helpers
    errors       BpfError and its kinds, which are here too: KeyNotFound, VerifierError, ...
    clock        the kernel's times as datetime
    ksym         the kernel's symbol that an address lies in
    trace_pipe   what programs print by bpf_trace_printk(), line by line
    Histogram    a distribution that a program counted in a map: numbers, text, SVG
    btf, asm     types and instructions
    codec_for    what the bytes of a key or a value mean; PerCpu is a value per CPU
    using        another backend for a `with` block, such as one that traces or fails

`dir(rawbpf)` lists all names, `help(rawbpf.Map)` describes one. They resolve on first use, so that
`import rawbpf` costs a few milliseconds and needs the standard library alone. `__version__` is the
project's version.
"""

from __future__ import annotations

from rawbpf import default as _default  # noqa: F401  (fills the slots of the lower layers)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf import asm as asm
    from rawbpf import btf as btf
    from rawbpf import clock as clock
    from rawbpf import errors as errors
    from rawbpf import features as features
    from rawbpf import sim as sim
    from rawbpf.codec import Codec as Codec
    from rawbpf.codec import MapId as MapId
    from rawbpf.codec import PerCpu as PerCpu
    from rawbpf.codec import ProgId as ProgId
    from rawbpf.codec import codec_for as codec_for
    from rawbpf.errors import BpfError as BpfError
    from rawbpf.errors import Closed as Closed
    from rawbpf.errors import Empty as Empty
    from rawbpf.errors import FormatError as FormatError
    from rawbpf.errors import IndexOutOfRange as IndexOutOfRange
    from rawbpf.errors import IterationAborted as IterationAborted
    from rawbpf.errors import KeyExists as KeyExists
    from rawbpf.errors import KeyNotFound as KeyNotFound
    from rawbpf.errors import MapFull as MapFull
    from rawbpf.errors import NotFound as NotFound
    from rawbpf.errors import NotSupported as NotSupported
    from rawbpf.errors import PermissionDenied as PermissionDenied
    from rawbpf.errors import SpecError as SpecError
    from rawbpf.errors import VerifierError as VerifierError
    from rawbpf.event.perf_event_array import PerfEventArrayMap as PerfEventArrayMap
    from rawbpf.event.reader import Reader as Reader
    from rawbpf.event.ring import RingBufMap as RingBufMap
    from rawbpf.event.trace_pipe import trace_pipe as trace_pipe
    from rawbpf.event.user_ring import UserRingBufMap as UserRingBufMap
    from rawbpf.histogram import Histogram as Histogram
    from rawbpf.link.base import Link as Link
    from rawbpf.link.info import links as links
    from rawbpf.loader.object import Object as Object
    from rawbpf.loader.relocate import relocate as relocate
    from rawbpf.loader.spec import ObjectSpec as ObjectSpec
    from rawbpf.loader.spec import load as load
    from rawbpf.map.arena import ArenaMap as ArenaMap
    from rawbpf.map.array import ArrayMap as ArrayMap
    from rawbpf.map.base import Map as Map
    from rawbpf.map.bloom_filter import BloomFilterMap as BloomFilterMap
    from rawbpf.map.btf import btfs as btfs
    from rawbpf.map.cgroup_array import CgroupArrayMap as CgroupArrayMap
    from rawbpf.map.cgroup_storage import CgroupStorageMap as CgroupStorageMap
    from rawbpf.map.cgroup_storage import PerCpuCgroupStorageMap as PerCpuCgroupStorageMap
    from rawbpf.map.cpumap import CpuMap as CpuMap
    from rawbpf.map.devmap import DevMap as DevMap
    from rawbpf.map.devmap import DevMapHash as DevMapHash
    from rawbpf.map.hash import HashMap as HashMap
    from rawbpf.map.hash import LruHashMap as LruHashMap
    from rawbpf.map.insn_array import InsnArrayMap as InsnArrayMap
    from rawbpf.map.local_storage import CgrpStorageMap as CgrpStorageMap
    from rawbpf.map.local_storage import InodeStorageMap as InodeStorageMap
    from rawbpf.map.local_storage import SkStorageMap as SkStorageMap
    from rawbpf.map.local_storage import TaskStorageMap as TaskStorageMap
    from rawbpf.map.lpm_trie import LpmTrieMap as LpmTrieMap
    from rawbpf.map.map_in_map import ArrayOfMaps as ArrayOfMaps
    from rawbpf.map.map_in_map import HashOfMaps as HashOfMaps
    from rawbpf.map.open import maps as maps
    from rawbpf.map.percpu import LruPerCpuHashMap as LruPerCpuHashMap
    from rawbpf.map.percpu import PerCpuArrayMap as PerCpuArrayMap
    from rawbpf.map.percpu import PerCpuHashMap as PerCpuHashMap
    from rawbpf.map.prog_array import ProgArrayMap as ProgArrayMap
    from rawbpf.map.queue import QueueMap as QueueMap
    from rawbpf.map.queue import StackMap as StackMap
    from rawbpf.map.reuseport import ReuseportSockArray as ReuseportSockArray
    from rawbpf.map.sockmap import SockHash as SockHash
    from rawbpf.map.sockmap import SockMap as SockMap
    from rawbpf.map.stack_trace import StackTrace as StackTrace
    from rawbpf.map.stack_trace import StackTraceMap as StackTraceMap
    from rawbpf.map.struct_ops import StructOpsMap as StructOpsMap
    from rawbpf.map.xskmap import XskMap as XskMap
    from rawbpf.program.info import programs as programs
    from rawbpf.program.program import Program as Program
    from rawbpf.program.run import RunResult as RunResult
    from rawbpf.symbols import Symbol as Symbol
    from rawbpf.symbols import ksym as ksym
    from rawbpf.syscall.current import using as using

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "ArenaMap": "map.arena",
    "ArrayMap": "map.array",
    "ArrayOfMaps": "map.map_in_map",
    "BloomFilterMap": "map.bloom_filter",
    "BpfError": "errors",
    "CgroupArrayMap": "map.cgroup_array",
    "CgroupStorageMap": "map.cgroup_storage",
    "CgrpStorageMap": "map.local_storage",
    "Closed": "errors",
    "Codec": "codec",
    "CpuMap": "map.cpumap",
    "DevMap": "map.devmap",
    "DevMapHash": "map.devmap",
    "Empty": "errors",
    "FormatError": "errors",
    "HashMap": "map.hash",
    "HashOfMaps": "map.map_in_map",
    "Histogram": "histogram",
    "IndexOutOfRange": "errors",
    "InodeStorageMap": "map.local_storage",
    "InsnArrayMap": "map.insn_array",
    "IterationAborted": "errors",
    "KeyExists": "errors",
    "KeyNotFound": "errors",
    "Link": "link.base",
    "LpmTrieMap": "map.lpm_trie",
    "LruHashMap": "map.hash",
    "LruPerCpuHashMap": "map.percpu",
    "Map": "map.base",
    "MapFull": "errors",
    "MapId": "codec",
    "NotFound": "errors",
    "NotSupported": "errors",
    "Object": "loader.object",
    "ObjectSpec": "loader.spec",
    "PerCpu": "codec",
    "PerCpuArrayMap": "map.percpu",
    "PerCpuCgroupStorageMap": "map.cgroup_storage",
    "PerCpuHashMap": "map.percpu",
    "PerfEventArrayMap": "event.perf_event_array",
    "PermissionDenied": "errors",
    "ProgArrayMap": "map.prog_array",
    "ProgId": "codec",
    "Program": "program.program",
    "QueueMap": "map.queue",
    "ReuseportSockArray": "map.reuseport",
    "Reader": "event.reader",
    "RingBufMap": "event.ring",
    "RunResult": "program.run",
    "SkStorageMap": "map.local_storage",
    "SockHash": "map.sockmap",
    "SockMap": "map.sockmap",
    "SpecError": "errors",
    "StackMap": "map.queue",
    "StackTrace": "map.stack_trace",
    "StackTraceMap": "map.stack_trace",
    "StructOpsMap": "map.struct_ops",
    "Symbol": "symbols",
    "TaskStorageMap": "map.local_storage",
    "UserRingBufMap": "event.user_ring",
    "VerifierError": "errors",
    "XskMap": "map.xskmap",
    "btfs": "map.btf",
    "codec_for": "codec",
    "ksym": "symbols",
    "links": "link.info",
    "load": "loader.spec",
    "maps": "map.open",
    "programs": "program.info",
    "relocate": "loader.relocate",
    "trace_pipe": "event.trace_pipe",
    "using": "syscall.current",
}
_MODULES = ("asm", "btf", "clock", "errors", "features", "sim")
# What this module needs itself, and nobody asks it for.
_HELPERS = ("TYPE_CHECKING", "annotations", "default")


def __getattr__(name: str) -> object:
    # importlib imports warnings, which takes as long as all of this module.
    if name in _HOMES:
        value: object = getattr(__import__(f"rawbpf.{_HOMES[name]}", fromlist=[name]), name)
    elif name in _MODULES:
        value = __import__(f"rawbpf.{name}", fromlist=[name])
    else:
        raise AttributeError(f"module 'rawbpf' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES}.difference(_HELPERS))
