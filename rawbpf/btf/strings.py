"""The strings of a BTF: by offset, and where a name lies among them. Nothing is indexed before it is asked for."""

from __future__ import annotations

from rawbpf.errors import FormatError

MAX_NAME = 4096
"""Longest name in bytes. The kernel's limit is 511 (KSYM_NAME_LEN), but file formats of others know none."""


class Strings:
    """The bytes of `text` from `at` to `end`, each string ending with a NUL; those of a split BTF continue a `base`.

    Their offsets are from `first` to `behind`, which is the first that is none.
    """

    __slots__ = ("_at", "_base", "_end", "_flavors", "_text", "behind", "first")

    def __init__(self, text: bytes, at: int, end: int, base: Strings | None) -> None:
        self._text, self._at, self._end = text, at, end
        self._base = base
        self.first: int = base.behind if base else 0
        self.behind: int = self.first + end - at
        self._flavors: dict[str, list[str]] | None = None

    def __bytes__(self) -> bytes:
        return self._text[self._at : self._end]

    def at(self, offset: int, *, cut: bool) -> str:
        """Return the string at `offset`; documented as `Btf.string`."""
        if offset < self.first and self._base:
            return self._base.at(offset, cut=cut)
        if offset >= self.behind:
            raise FormatError(f"string offset {offset} lies behind the strings, which end at {self.behind}")
        at = self._at + offset - self.first
        end = self._text.find(b"\0", at, at + MAX_NAME + 1)
        if end < 0 and cut:
            end = at + MAX_NAME
        elif end < 0:
            raise FormatError(f"the string at offset {offset} has more than {MAX_NAME} bytes")
        return self._text[at:end].decode("utf-8", "backslashreplace")

    def offset_of(self, text: str) -> int | None:
        """Return where `text` lies; documented as `Btf.string_offset`."""
        found = self._base.offset_of(text) if self._base else None
        if found is not None:
            return found
        needle = text.encode("utf-8", "replace") + b"\0"
        at, end = self._at, self._end
        if not self._text.startswith(needle, at, end):
            at = self._text.find(b"\0" + needle, at, end) + 1
            if not at:
                return None
        return at - self._at + self.first

    def places(self, name: str) -> tuple[list[int], list[int]]:
        """Return the offsets at which `name` lies as a whole string, and those at which it is the tail of one.

        The base's are among them: the names of a split BTF may lie there.
        """
        whole, tails = self._base.places(name) if self._base else ([], [])
        needle = name.encode("utf-8", "replace") + b"\0"
        text, shift = self._text, self.first - self._at
        at = text.find(needle, self._at, self._end)
        while at >= 0:
            (tails if at > self._at and text[at - 1] else whole).append(at + shift)
            at = text.find(needle, at + 1, self._end)
        return whole, tails

    def flavors(self, name: str) -> list[str]:
        """Return the strings that are `name` with a flavor (`name___any`), the base's first."""
        # One look at all underscores is kept: a kernel has few flavors.
        if self._flavors is None:
            self._flavors = self._find_flavors()
        return [*(self._base.flavors(name) if self._base else ()), *self._flavors.get(name, ())]

    def _find_flavors(self) -> dict[str, list[str]]:
        from rawbpf.btf.core_compare import essential_name

        flavors: dict[str, list[str]] = {}
        text = self._text
        at = text.find(b"___", self._at, self._end)
        while at >= 0:
            start = text.rfind(b"\0", self._at, at) + 1 or self._at
            end = text.find(b"\0", at, self._end)
            if end - start <= MAX_NAME:
                whole = text[start:end].decode("utf-8", "backslashreplace")
                essential = essential_name(whole)
                if essential != whole:
                    flavors.setdefault(essential, []).append(whole)
            at = text.find(b"___", end, self._end)
        return flavors
