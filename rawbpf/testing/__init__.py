"""For those who test code that uses maps and programs, with or without a kernel.

    faults     the n-th call of a bpf(2) command fails with an errno
    trace      the bpf(2) calls of a piece of code, collected and counted
    record     writes the calls down with all that they read and wrote: a Recording, which is a text file
    replay     makes the calls of a Recording again, on any backend, and tells what differed
    ReplayBackend    answers a program out of a Recording, without any kernel

    MapMachine     a Hypothesis state machine that compares kernels, simulated or not, and a model in plain Python
    agree          the same comparison for one map and a list of operations
    map_specs, keys, values, operations    Hypothesis strategies of what can be asked of a map
    btf_types      one of types of any layout
    FAMILIES, MapSpec, Operation, Stage    what a comparison is about: types, a map, a command, objects

The pytest plug-in (fixtures `bpf_backend`, `bpf_pins`, `bpf_object`, `bpf_load`) is in `plugin` and is found by
pytest itself. Names resolve on first use: what needs Hypothesis does not stop who has none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rawbpf.testing.answer import ReplayBackend as ReplayBackend
    from rawbpf.testing.answer import ReplayMismatch as ReplayMismatch
    from rawbpf.testing.calls import Trace as Trace
    from rawbpf.testing.calls import trace as trace
    from rawbpf.testing.fault import faults as faults
    from rawbpf.testing.machine import FAMILIES as FAMILIES
    from rawbpf.testing.machine import MapMachine as MapMachine
    from rawbpf.testing.operation import Operation as Operation
    from rawbpf.testing.party import agree as agree
    from rawbpf.testing.recorder import Recorder as Recorder
    from rawbpf.testing.recorder import record as record
    from rawbpf.testing.recording import Recording as Recording
    from rawbpf.testing.replayer import replay as replay
    from rawbpf.testing.spec import MapSpec as MapSpec
    from rawbpf.testing.stage import Stage as Stage
    from rawbpf.testing.strategies import keys as keys
    from rawbpf.testing.strategies import map_specs as map_specs
    from rawbpf.testing.strategies import operations as operations
    from rawbpf.testing.strategies import values as values
    from rawbpf.testing.types import btf_types as btf_types

# Where each public name lives.
_HOMES = {
    "FAMILIES": "machine",
    "MapMachine": "machine",
    "MapSpec": "spec",
    "Operation": "operation",
    "Recorder": "recorder",
    "Recording": "recording",
    "ReplayBackend": "answer",
    "ReplayMismatch": "answer",
    "Stage": "stage",
    "Trace": "calls",
    "agree": "party",
    "btf_types": "types",
    "faults": "fault",
    "keys": "strategies",
    "map_specs": "strategies",
    "operations": "strategies",
    "record": "recorder",
    "replay": "replayer",
    "trace": "calls",
    "values": "strategies",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rawbpf.testing' has no attribute {name!r}")
    try:
        value: object = getattr(__import__(f"rawbpf.testing.{_HOMES[name]}", fromlist=[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        message = f"rawbpf.testing.{name} needs Hypothesis: pip install 'rawbpf[testing]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES}.difference(("TYPE_CHECKING", "annotations")))
