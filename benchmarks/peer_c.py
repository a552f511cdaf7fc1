"""C over libbpf: `peer_c.c`, compiled on the spot and called through ctypes, its loops inside of C."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("peer_c.c")


class PeerC:
    """The functions of `peer_c.c`; buffers are bytes or ctypes arrays. Raises: OSError, which says what is missing."""

    def __init__(self) -> None:
        if shutil.which("gcc") is None:
            raise OSError("C is left out: there is no gcc")
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory, "peer.so")
            command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-lbpf"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"C is left out: gcc says {done.stderr.strip().splitlines()[0]} (libbpf-dev is needed)")
            self._library = ctypes.CDLL(str(library))

    def lookup(self, fd: int, keys: bytes, key_size: int, value_size: int, n: int) -> int:
        return self._call("c_lookup", fd, keys, key_size, value_size, n)

    def update(self, fd: int, keys: bytes, key_size: int, value: bytes, n: int) -> int:
        return self._call("c_update", fd, keys, key_size, value, n)

    def delete(self, fd: int, keys: bytes, key_size: int, n: int) -> int:
        return self._call("c_delete", fd, keys, key_size, n)

    def walk(self, fd: int, key_size: int, value_size: int) -> int:
        return self._call("c_walk", fd, key_size, value_size)

    def batches(
        self,
        fd: int,
        keys: ctypes.Array[ctypes.c_char],
        values: ctypes.Array[ctypes.c_char],
        key_size: int,
        chunk: int,
        take: bool = False,
    ) -> int:
        return self._call("c_batches", fd, keys, values, key_size, chunk, int(take))

    def sum(
        self,
        fd: int,
        keys: ctypes.Array[ctypes.c_char],
        values: ctypes.Array[ctypes.c_char],
        key_size: int,
        value_size: int,
        chunk: int,
    ) -> int:
        return self._call("c_sum", fd, keys, values, key_size, value_size, chunk)

    def take(self, fd: int, keys: bytes, key_size: int, value_size: int, n: int) -> int:
        return self._call("c_take", fd, keys, key_size, value_size, n)

    def delete_batch(self, fd: int, keys: bytes, n: int) -> int:
        return self._call("c_delete_batch", fd, keys, n)

    def update_batch(self, fd: int, keys: bytes, values: bytes, n: int) -> int:
        return self._call("c_update_batch", fd, keys, values, n)

    def open_ring(self, fd: int, *, delays: bool = False) -> None:
        """Open the one ring buffer that the following read; `delays`: of the records that `ring_delays` waits for."""
        self._call("c_ring_open", fd, int(delays))

    def close_ring(self) -> None:
        self._call("c_ring_close")

    def consume_ring(self) -> int:
        return self._call("c_ring_consume")

    def ring_delays(self, n: int) -> list[int]:
        delays = (ctypes.c_int64 * n)()
        self._call("c_ring_delays", delays, n)
        return list(delays)

    def open_object(self, content: bytes, *, load: bool) -> int:
        """Open the one object that `close_object` closes, and load it if that is asked for."""
        return self._call("c_object_open", content, ctypes.c_uint64(len(content)), int(load))

    def close_object(self) -> None:
        self._call("c_object_close")

    def find_type(self, path: str, name: str) -> int:
        return self._call("c_btf_find", path.encode(), name.encode())

    def _call(self, name: str, *arguments: int | bytes | ctypes.c_uint64 | ctypes.Array[Any]) -> int:
        function = self._library[name]
        function.restype = ctypes.c_int64
        result = int(function(*arguments))
        if result < 0:
            raise OSError(f"{name} failed")
        return result
