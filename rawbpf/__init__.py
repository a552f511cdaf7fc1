"""eBPF from Python with nothing underneath but the kernel.

Names resolve on first use, so that `import rawbpf` costs a few milliseconds and needs the standard
library alone. `__version__` is the project's version.
"""

from __future__ import annotations

from rawbpf import default as _default  # noqa: F401  (fills the slots of the lower layers)

__version__ = "0.1.0"

_HOMES = {
    "BpfError": "errors",
    "KeyNotFound": "errors",
    "KeyExists": "errors",
    "IndexOutOfRange": "errors",
    "IterationAborted": "errors",
    "Empty": "errors",
    "MapFull": "errors",
    "Closed": "errors",
    "PermissionDenied": "errors",
    "NotSupported": "errors",
    "VerifierError": "errors",
    "SpecError": "errors",
    "FormatError": "errors",
    "Map": "map",
    "using": "syscall.current",
}
