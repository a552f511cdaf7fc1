"""Typed views of memory."""

from __future__ import annotations


def cast_view(octets: memoryview, form: str) -> memoryview:
    """Return `octets` as items of the struct format `form`, which a codec named."""
    return octets.cast(form)  # type: ignore[call-overload,no-any-return]  # a format known only at run time
