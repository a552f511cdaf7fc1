"""The kernels that are tested, and how QEMU emulates the machines that they run on."""

from __future__ import annotations

from typing import NamedTuple


class Machine(NamedTuple):
    """One architecture, by Debian's name for it."""

    arch: str
    program: str
    package: str
    """The package of Debian that has `program`."""
    options: tuple[str, ...]
    serial: str
    """The device that virtual serial ports are plugged into."""
    parameters: str
    """What its kernel is told: where the console is, and what emulation takes."""


class Target(NamedTuple):
    """One kernel on one machine."""

    name: str
    machine: Machine
    suites: tuple[str, ...]
    """Where Debian has this kernel, the one to prefer first: mirrors may list one that they do not have."""
    kernel: str
    """The package that depends on the newest kernel of a suite."""
    marks: tuple[str, ...]
    """The marks of the tests that run."""
    at_least: int
    """How many tests must pass: so many that a guest in which most of them skip is a failure."""


# Without cx16: in QEMU 7.2 its emulation (cmpxchg16b without LOCK) loses flags that Linux 6.12 goes by, and it dies.
_AMD64 = Machine(
    "amd64",
    "qemu-system-x86_64",
    "qemu-system-x86",
    ("-machine", "q35", "-cpu", "max,-cx16"),
    "virtio-serial-pci",
    "console=ttyS0 no_timer_check",
)
# Linux 7.0 and newer hand out no memory where locks may not be taken (kmalloc_nolock) on x86 without cx16, unless slabs
# are debugged: no arena, no streams.
_AMD64_WITH_SLABS_DEBUGGED = _AMD64._replace(parameters=f"{_AMD64.parameters} slab_debug=F")
_ARM64 = Machine(
    "arm64",
    "qemu-system-aarch64",
    "qemu-system-arm",
    ("-machine", "virt,gic-version=3", "-cpu", "cortex-a72"),
    "virtio-serial-pci",
    "console=ttyAMA0",
)
_S390X = Machine(
    "s390x",
    "qemu-system-s390x",
    "qemu-system-misc",
    ("-machine", "s390-ccw-virtio", "-cpu", "max"),
    "virtio-serial-ccw",
    "console=ttysclp0",
)

_GUEST = ("guest",)
_LINUX_5_10 = ("bullseye", "bullseye-security")
_LINUX_6_1 = ("bookworm", "bookworm-security")
_LINUX_6_12 = ("trixie", "trixie-security", "bookworm-backports")
_NEWEST = ("sid",)

TARGETS = {
    target.name: target
    for target in (
        Target("5.10-amd64", _AMD64, _LINUX_5_10, "linux-image-cloud-amd64", _GUEST, 1250),
        Target("6.1-amd64", _AMD64, _LINUX_6_1, "linux-image-cloud-amd64", _GUEST, 1400),
        Target("6.12-amd64", _AMD64, _LINUX_6_12, "linux-image-cloud-amd64", _GUEST, 1480),
        Target("6.12-modules-amd64", _AMD64, _LINUX_6_12, "linux-image-cloud-amd64", ("guest_module",), 11),
        Target("6.12-arm64", _ARM64, _LINUX_6_12, "linux-image-cloud-arm64", _GUEST, 1480),
        Target("6.12-s390x", _S390X, _LINUX_6_12, "linux-image-s390x", (*_GUEST, "guest_byte_order"), 1600),
        Target("newest-amd64", _AMD64_WITH_SLABS_DEBUGGED, _NEWEST, "linux-image-cloud-amd64", _GUEST, 1600),
    )
}
