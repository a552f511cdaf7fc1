"""What `import rawbpf` may load: the standard library alone, and only its light parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import rawbpf"
MAP = """
import rawbpf
with rawbpf.Map.create('hash', key='u32', value='u64', max_entries=4) as m:
    m[1] = 2
    assert m[1] == 2
"""
HEAVY = {
    "argparse",
    "asyncio",
    "capstone",
    "collections",
    "dataclasses",
    "elftools",
    "enum",
    "functools",
    "hypothesis",
    "inspect",
    "ipaddress",
    "json",
    "logging",
    "numpy",
    "pathlib",
    "platform",
    "re",
    "rich",
    "socket",
    "subprocess",
    "typing",
}


def _imported(code: str) -> set[str]:
    program = f"import sys\nbefore = set(sys.modules)\nsys.path.insert(0, {str(ROOT)!r})\n{code}\n"
    program += "after = set(sys.modules) - before\nimport json\nprint(json.dumps(sorted(after)))"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_importing_loads_no_third_party_and_no_heavy_module() -> None:
    modules = {name.partition(".")[0] for name in _imported(IMPORT)}
    assert modules - sys.stdlib_module_names == {"rawbpf"}
    assert modules & HEAVY == set()


@pytest.mark.real_kernel("it asks about the running kernel")
@pytest.mark.needs("kernel")
def test_a_first_map_loads_no_third_party_and_no_heavy_module() -> None:
    modules = {name.partition(".")[0] for name in _imported(MAP)}
    assert modules - sys.stdlib_module_names == {"rawbpf"}
    assert modules & HEAVY == set()


def test_the_command_line_is_read_without_what_only_some_commands_need() -> None:
    modules = {name.partition(".")[0] for name in _imported("import rawbpf.cli.parser as p\np.make_parser()")}
    assert modules - sys.stdlib_module_names == {"rawbpf"}
    assert modules & {"dataclasses", "inspect", "random", "socket", "subprocess", "tempfile", "typing"} == set()


def test_every_public_name_resolves() -> None:
    import rawbpf

    assert {"Map", "ObjectSpec", "load", "using", "features", "clock"} <= set(dir(rawbpf))
    for name in dir(rawbpf):
        assert getattr(rawbpf, name) is not None
    assert not hasattr(rawbpf, "nope")


def test_dir_lists_no_helper_of_the_root_module() -> None:
    import rawbpf

    public = {name for name in dir(rawbpf) if not name.startswith("_")}
    assert not public & {"TYPE_CHECKING", "annotations", "default"}
    assert {name for name in public if not hasattr(rawbpf, name)} == set()


def test_help_of_the_root_module_shows_its_main_names_and_only_names_that_there_are() -> None:
    import rawbpf

    # help() skips what another module defines, so the names stand in the docstring.
    table = [line for line in (rawbpf.__doc__ or "").splitlines() if line.startswith("    ")]
    words = {name.strip(",") for line in table for name in line.strip().partition("  ")[0].split()}
    assert {"load", "ObjectSpec", "Map", "Program", "features", "errors", "clock", "using"} <= words
    assert words <= set(dir(rawbpf))


@pytest.mark.parametrize("package", ["asm", "btf", "codec", "spec"])
def test_what_a_package_promises_to_type_checkers_is_there_at_run_time(package: str) -> None:
    import ast
    from importlib import import_module

    source = (ROOT / "rawbpf" / package / "__init__.py").read_text(encoding="utf-8")
    promised = {
        alias.asname
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert promised
    for name in promised:
        assert getattr(import_module(f"rawbpf.{package}"), name) is not None
