"""What was measured, as JSON and as a table."""

from __future__ import annotations

import os
import platform

from rawbpf.cli.bench_map import MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rawbpf.cli.bench_map import Measurement

_JIT = {"0": "off", "1": "on", "2": "on"}


def report(
    described: dict[str, object],
    measurements: Sequence[Measurement],
    left_out: Sequence[tuple[str, str, str]],
    *,
    interrupted: bool,
) -> dict[str, object]:
    """Return all of it as JSON has it; nanoseconds are those of one operation, or of one element read."""
    return {
        "map": described,
        "machine": machine(),
        "interrupted": interrupted,
        "measurements": [
            {
                "where": each.where,
                "operation": each.operation,
                "call": each.call,
                "operations": each.operations,
                "nanoseconds": {
                    "median": round(each.median, 2),
                    "min": round(min(each.rounds), 2),
                    "max": round(max(each.rounds), 2),
                },
                "rounds": [round(one, 2) for one in each.rounds],
            }
            for each in measurements
            if each.rounds
        ],
        "not_measured": [{"where": where, "operation": operation, "why": why} for where, operation, why in left_out],
    }


def machine() -> dict[str, object]:
    """Return what the figures depend on: the processor, the kernel, whether programs are compiled, Python."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": os.cpu_count() or 0,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "jit": _JIT.get(_read("/proc/sys/net/core/bpf_jit_enable").strip(), "unknown"),
        "python": platform.python_version(),
    }


def table(content: dict[str, object]) -> Iterator[str]:
    """Yield the lines of the table that `content`, a report, comes to."""
    about, on = content["map"], content["machine"]
    measurements, left_out = content["measurements"], content["not_measured"]
    assert isinstance(about, dict)
    assert isinstance(on, dict)
    assert isinstance(measurements, list)
    assert isinstance(left_out, list)
    yield _headline(about)
    yield (
        f"{on['cpu']} ({on['cpus']} CPUs, {on['machine']}), Linux {on['kernel']}, JIT {on['jit']}, "
        f"Python {on['python']}"
    )
    if measurements:
        yield ""
        yield f"{'nanoseconds per operation':52}{'median':>12}{'min':>12}{'max':>12}{'operations':>15}"
    where = ""
    for each in measurements:
        if each["where"] != where:
            where = each["where"]
            path = about.get("many_path") if where == MANY else ""
            yield f"{where}: {path}" if path else where
        ns = each["nanoseconds"]
        times = "".join(f"{ns[name]:12,.1f}" for name in ("median", "min", "max"))
        yield f"  {each['operation']:22}{each['call']:28}{times}{each['operations']:10,} x {len(each['rounds'])}"
    if left_out:
        yield ""
        yield "not measured"
    for each in left_out:
        subject = ", ".join(filter(None, (each["operation"], each["where"])))
        yield f"  {subject}: {each['why']}"
    if content["interrupted"]:
        yield ""
        yield "interrupted: these are the rounds until then"


def _headline(about: dict[str, object]) -> str:
    line = str(about["type"])
    types = " -> ".join(str(about[side]) for side in ("key", "value") if about.get(side))
    if types:
        line += f", {types}, {about['elements']:,} elements of at most {about['max_entries']:,}"
    if about.get("memory"):
        from rawbpf.syscall.footprint import amount

        memory = about["memory"]
        assert isinstance(memory, int)
        line += f", {amount(memory)} of kernel memory"
    if about.get("flags"):
        line += f", {' '.join(map(str, _listed(about['flags'])))}"
    return line


def _listed(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _first(path: str, name: str) -> str:
    for line in _read(path).splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""
