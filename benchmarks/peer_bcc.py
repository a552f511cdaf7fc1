"""BCC's Python: its own table objects over a map that is open already.

The module is the distribution's (python3-bpfcc) and pure Python over libbcc.so, so that another
interpreter than the distribution's can load it, too. A table asks its BPF object for a map's type and
size; here it is told.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

DISTRIBUTION = Path("/usr/lib/python3/dist-packages")


class PeerBcc:
    """Tables of BCC. Raises: OSError, which says what is missing."""

    def __init__(self) -> None:
        if not (DISTRIBUTION / "bcc").exists():
            raise OSError("BCC is left out: there is no python3-bpfcc")
        sys.path.append(str(DISTRIBUTION))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._table = importlib.import_module("bcc.table")
                self._bcc = importlib.import_module("bcc")
        except ImportError as error:
            raise OSError(f"BCC is left out: {error}") from error
        finally:
            sys.path.remove(str(DISTRIBUTION))

    def hash(self, fd: int, key: type[Any], value: type[Any], entries: int) -> Any:  # noqa: ANN401  (BCC has no types)
        """Return a HashTable over the map behind `fd`, with ctypes classes for keys and values."""
        return self._made(self._table.HashTable, fd, key, value, entries)

    def array(self, fd: int, value: type[Any], entries: int) -> Any:  # noqa: ANN401  (BCC has no types)
        """Return an Array over the map behind `fd`, with a ctypes class for the values."""
        return self._made(self._table.Array, fd, ctypes.c_int, value, entries)

    def ring(self, fd: int, callback: Callable[[Any, int, int], object]) -> Any:  # noqa: ANN401  (BCC has no types)
        """Return a BPF object that has the ring buffer behind `fd` open, for `ring_buffer_consume()` and `_poll()`."""
        owner: Any = object.__new__(self._bcc.BPF)
        owner._ringbuf_manager = None
        table: Any = object.__new__(self._table.RingBuf)
        table.bpf, table.map_fd, table._cbs, table._event_class = owner, fd, {}, None
        table.open_ring_buffer(callback)
        owner.table = table  # which keeps the callback alive
        return owner

    def close_ring(self, owner: Any) -> None:  # noqa: ANN401  (as above)
        """Free what `ring` opened."""
        self._bcc.lib.bpf_free_ringbuf(owner._ringbuf_manager)
        owner._ringbuf_manager = None

    def _made(self, kind: type[Any], fd: int, key: type[Any], value: type[Any], entries: int) -> Any:  # noqa: ANN401
        table: Any = object.__new__(kind)
        table.bpf = None
        table.map_id, table.map_fd, table.max_entries, table.flags = 0, fd, entries, 0
        table.Key, table.Leaf, table._cbs, table._name = key, value, {}, None
        return table
