"""A codec loads what its description needs and no more: every map operation starts here."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "enum", "typing", "dataclasses", "collections", "functools", "ipaddress", "re", "ctypes", "array", "difflib",
    "operator", "importlib.util", "weakref", "contextlib", "pathlib", "json", "inspect", "keyword",
}  # fmt: skip
LOADED: list[tuple[str, set[str]]] = [
    ("codec_for('u32').unpack(codec_for('u32').pack(1))", set()),
    ("codec_for('be64'), codec_for('f32'), codec_for('bool')", set()),
    ("codec_for('char[16]').pack('x'), codec_for(16), codec_for('u8[4]'), codec_for('u32[4]').pack([1] * 4)", set()),
    ("codec_for({'a': 'u32', 'b': 'char[4]'}).unpack(bytes(8))", {"keyword"}),
    ("codec_for('u32').view(bytes(8)), list(codec_for('u32').iter_unpack(bytes(8)))", set()),
    ("codec_for({'a': 'u32', 'b': 'u32'}).column(bytes(8), 'b')", {"keyword"}),
    ("rawbpf.codec.PerCpuCodec(codec_for('u32'), 4).unpack(bytes(32)).sum()", set()),
]


@pytest.mark.parametrize(("code", "allowed"), LOADED, ids=[row[0] for row in LOADED])
def test_a_codec_loads_only_what_it_needs(code: str, allowed: set[str]) -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        f"sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        f"import rawbpf.codec; from rawbpf.codec import codec_for\n{code}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "rawbpf.codec.base" in loaded
    assert loaded & HEAVY <= allowed
    assert not [name for name in loaded if name.startswith("rawbpf.btf.")]
