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

    def _made(self, kind: type[Any], fd: int, key: type[Any], value: type[Any], entries: int) -> Any:  # noqa: ANN401
        table: Any = object.__new__(kind)
        table.bpf = None
        table.map_id, table.map_fd, table.max_entries, table.flags = 0, fd, entries, 0
        table.Key, table.Leaf, table._cbs, table._name = key, value, {}, None
        return table
