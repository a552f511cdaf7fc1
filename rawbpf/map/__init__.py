"""The map runtime: one class per family of map types, found by the kernel's number in `types`."""

from __future__ import annotations

from rawbpf.map.base import Map

__all__ = ["Map"]
