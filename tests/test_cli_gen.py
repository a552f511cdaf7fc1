"""`rawbpf gen skeleton`: a module that type checkers and formatters leave alone, and that does what it says."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from support.command import run
from support.objects import BPF, OBJECTS, SUFFIX, native

import rawbpf
from rawbpf.cli.skeleton import skeleton
from rawbpf.loader.skeleton import Skeleton
from rawbpf.spec import MapSpec
from rawbpf.uapi import constants as c

if TYPE_CHECKING:
    from rawbpf.syscall.protocol import Backend

pytestmark = pytest.mark.needs("module:elftools")

ALL = [path for folder in (BPF, OBJECTS) for path in sorted(folder.glob(f"*{SUFFIX}"))]

USES = """
from typing import assert_type

from exec_events import ExecEvent, ExecEvents
from exec_events_perf import ExecEventsPerf
from execcount import Execcount, ExeccountSpec
from rawbpf import HashMap, Program, Reader
from rawbpf.event.perf_reader import PerfReader
from rawbpf.loader.object import Links
from typed import Key, Point, Typed

spec = Execcount.open()
assert_type(spec, ExeccountSpec)
spec.variables.min_uid.value = 1000
spec.maps.exec_count.max_entries = 100
spec.programs.count_execve.autoload = True
with spec.load(only=["count_execve"]) as obj:
    assert_type(obj, Execcount)
    assert_type(obj.attach(), Links)
    assert_type(obj.maps.exec_count, HashMap[int, int])
    assert_type(obj.programs.count_execve, Program)
    assert_type(obj.variables.dropped.value, int)

with ExecEvents.load() as events, events.maps.exec_events.reader("exec_event") as reader:
    assert_type(reader, Reader[ExecEvent])
    for event in reader:
        assert_type(event.comm, str)
        print(event.pid + 1, event.asdict())
    assert_type(events.maps.exec_events.reader(), Reader[bytes])
    events.maps.exec_events.reader({"pid": "u32"})
    events.maps.exec_events.reader("exec_event", callback=lambda event: print(event.uid))
    assert_type(ExecEventsPerf.load().maps.exec_events.reader(cpus=[0]), PerfReader[bytes])

with Typed.load() as typed:
    typed.variables.origin.value = Point(x=1, y=2)
    value = typed.maps.typed[Key(1, 2, "three", True, 1)]
    assert_type(value.mac, bytes)
    assert_type(value.at, tuple[Point, ...])
    assert_type(value.low, int)
"""

WRONG = """
from execcount import Execcount
from typed import Key, Typed

spec = Execcount.open()
spec.variables.min_uid.value = "root"
spec.variables.nobody.value = 1
with spec.load() as obj:
    obj.maps.exec_count["root"] = 1
    obj.maps.exec_count[0] = 1.5
    obj.maps.no_map
    obj.programs.no_program
    obj.load(no_option=1)
Key(1, 2)
Typed.load().maps.typed.popitem
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the skeleton of each object."""
    folder = tmp_path_factory.mktemp("modules")
    for path in ALL:
        (folder / f"{path.name.removesuffix(SUFFIX)}.py").write_text(of(path))
    return folder


def of(path: Path, **options: Any) -> str:
    return skeleton(rawbpf.ObjectSpec.from_file(path), **options)


def executed(text: str, name: str = "generated") -> Any:
    module = ModuleType(name)
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    return module


def mypy(folder: Path, *files: str) -> str:
    root = Path(rawbpf.__file__).resolve().parents[1]
    # Where it is installed it is found, and may not be named again.
    environment = {**os.environ, "MYPYPATH": "" if root.name == "site-packages" else str(root)}
    quietly = ["--no-error-summary", "--follow-imports=silent"]  # rawbpf has its own check
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *quietly, "--cache-dir", str(folder.parent), *files],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout


@pytest.mark.needs("module:mypy")
def test_type_checkers_know_what_is_in_the_objects(modules: Path) -> None:
    (modules / "uses.py").write_text(USES)
    (modules / "wrong.py").write_text(WRONG)
    names = sorted(path.name for path in modules.glob("*.py") if path.name != "wrong.py")
    assert mypy(modules, *names) == ""
    found = [line.partition(": error: ")[0] for line in mypy(modules, "wrong.py").splitlines() if ": error: " in line]
    start = WRONG.splitlines()
    expected = [
        f"wrong.py:{number}" for number, line in enumerate(start, 1) if line and number > 5 and "with" not in line
    ]
    assert list(dict.fromkeys(found)) == expected


@pytest.mark.needs("tool:ruff")
@pytest.mark.parametrize("width", ["88", "100", "120"])
def test_formatters_leave_them_alone(modules: Path, width: str) -> None:
    names = [path.name for path in modules.glob("*.py") if path.name not in {"uses.py", "wrong.py"}]
    assert len(names) == len(ALL)
    command = ["ruff", "format", "--isolated", "--no-cache", "--diff", "--line-length", width, *names]
    done = subprocess.run(command, cwd=modules, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_same_object_gives_the_same_text(modules: Path) -> None:
    for path in ALL:
        code = f"import sys; from rawbpf.cli import main; sys.exit(main(['gen', 'skeleton', {str(path)!r}]))"
        if path.stem.startswith("typed"):
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True,
                env={**os.environ, "PYTHONHASHSEED": "7"},
            )  # fmt: skip
            assert done.stdout == of(path)
        assert of(path) == (modules / f"{path.name.removesuffix(SUFFIX)}.py").read_text()


def test_it_imports_rawbpf_alone(modules: Path) -> None:
    for path in modules.glob("*.py"):
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import", "from"))]
        if path.name not in {"uses.py", "wrong.py"}:
            assert imports[0] == "from __future__ import annotations"
            assert [line.split()[1] for line in imports[1:]] == ["rawbpf.loader.skeleton"]


def test_an_object_is_edited_and_loaded(backend: Backend, modules: Path) -> None:
    module = executed((modules / "execcount.py").read_text())
    spec = module.Execcount.open()
    spec.variables.min_uid.value = 77
    spec.maps.exec_count.max_entries = 9
    with spec.load() as obj:
        assert obj.maps.exec_count.max_entries == 9
        assert obj.variables.min_uid.value == 77
        assert obj.programs.count_execve.name == "count_execve"
        obj.maps.exec_count[3] = 4
        assert dict(obj.maps.exec_count.items()) == {3: 4}
    assert obj.maps.exec_count.closed
    with module.Execcount.load() as other:
        assert other.maps.exec_count.max_entries == 10240
        assert other.object.backend is backend


def test_records_are_of_the_classes_of_the_module(backend: Backend, modules: Path) -> None:
    module = executed((modules / "typed.py").read_text())
    with module.Typed.load(only=[]) as obj:
        key = module.Key(1, 2, "three", True, 1)
        raw = bytes(obj.maps.typed.value_type.size)
        obj.maps.typed.raw[obj.maps.typed.key_type.pack(key)] = raw
        (found,) = obj.maps.typed.keys()
        assert found == key
        assert type(found) is module.Key
        value = obj.maps.typed[key]
        assert type(value) is module.Value
        assert type(value.at[0]) is module.Point
        obj.variables.origin.value = module.Point(x=5, y=6)
        assert obj.variables.origin.value == module.Point(5, 6)


def test_the_type_of_events_is_found_by_its_name(backend: Backend, modules: Path) -> None:
    module = executed((modules / "exec_events.py").read_text())
    with module.ExecEvents.load() as obj, obj.maps.exec_events.reader("exec_event") as events:
        assert events.read(timeout=0) is None
    assert "Literal" not in of(native("events"))


def lines_from(text: str, word: str, count: int) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    first = next(number for number, line in enumerate(lines) if word in line)
    return lines[first : first + count]


def test_types_of_events_may_be_told() -> None:
    text = of(native("exec_events"), events=[("exec_events", "exec_event")])
    assert text.count("Literal[") == 1
    text = of(native("exec_events"), events=[("exec_events", "count_t")])
    assert 'type: Literal["exec_event"]' in text
    assert lines_from(text, "count_t", 2) == ['type: Literal["count_t"],', "**options: Unpack[ReaderOptions[int]],"]
    for event, message in (
        (("nope", "exec_event"), "the object has no ring buffer or perf event array 'nope'"),
        (("parents", "exec_event"), "the object has no ring buffer or perf event array 'parents'"),
        (("exec_events", "nope"), "no struct, union, typedef, enum or number is called so"),
    ):
        with pytest.raises(rawbpf.SpecError, match=message):
            of(native("exec_events"), events=[event])


def test_an_unknown_name_is_told_with_those_there_are(backend: Backend, modules: Path) -> None:
    spec = executed((modules / "execcount.py").read_text()).Execcount.open()
    with pytest.raises(AttributeError, match=r"spec\.maps has no 'nope'; it has exec_count, .rodata, .bss"):
        _ = spec.maps.nope
    with pytest.raises(AttributeError, match=r"spec.variables.min_uid cannot be assigned to: edit what it has"):
        spec.variables.min_uid = 5
    assert dir(spec.programs) == ["count_execve"]
    assert repr(spec.programs) == "<spec.programs: count_execve>"
    assert repr(spec) == "<ExeccountSpec of <ObjectSpec 'execcount.bpf.o': 1 programs, 3 maps, 2 variables>>".replace(
        ".bpf.o", SUFFIX
    )
    with (
        spec.load(only=[]) as obj,
        pytest.raises(AttributeError, match=r"obj\.programs has no 'count_execve'; it has none"),
    ):
        _ = obj.programs.count_execve


def _pickled(spec: Any) -> Any:
    return pickle.loads(pickle.dumps(spec))


def test_what_is_loaded_cannot_be_copied_and_what_is_not_can(backend: Backend, modules: Path) -> None:
    module = executed((modules / "execcount.py").read_text(), "execcount_pickled")
    sys.modules[module.__name__] = module
    try:
        spec = module.Execcount.open()
        ways: tuple[Callable[[Any], Any], ...] = (copy.deepcopy, _pickled)
        for way in ways:
            spec.variables.min_uid.value = 7
            other = way(spec)
            other.variables.min_uid.value = 8
            assert other.spec.variables["min_uid"].value == 8
            assert spec.variables.min_uid.value == 7
        assert repr(copy.copy(spec.maps)) == repr(spec.maps)
        with spec.load(only=[]) as loaded:
            for each in (loaded, loaded.object, loaded.variables.dropped):
                for way in (copy.copy, *ways):
                    with pytest.raises(TypeError, match="cannot be copied or pickled: "):
                        way(each)
            assert loaded.maps.exec_count.get(1) is None
    finally:
        del sys.modules[module.__name__]


NAMES = {
    "class": "class_",
    "import": "import_",
    "_entries": "entries",
    "__x": "x",
    "data.section": "data_section",
    "data_section": "data_section",
    "9lives": "n9lives",
    "HashMap": "HashMap_",
    "bytes": "bytes_",
    "ok": "ok",
    'a"""\nimport os\nb': "a____import_os_b",
    "": "unnamed",
    "\U0001f600": "unnamed_",
    "it's": "it_s",
    "\udcff\x1b[2J": "2J",
}


@pytest.fixture
def odd() -> rawbpf.ObjectSpec:
    spec = rawbpf.ObjectSpec.from_file(native("execcount"))
    for name in NAMES:
        each = MapSpec(name, c.BPF_MAP_TYPE_HASH, 3, 5, 1)
        spec._content.maps.add(name, each)  # type: ignore[attr-defined]  # a Named
    return spec


def test_names_that_are_none_of_pythons_are_changed(odd: rawbpf.ObjectSpec) -> None:
    module = executed(skeleton(odd, name="for"))
    maps = module.ForMaps("obj.maps", odd.maps)
    annotations = module.ForMaps.__annotations__
    assert len(annotations) == len(NAMES) + 1
    for attribute, annotation in annotations.items():
        assert attribute.isidentifier()
        assert getattr(maps, attribute) in odd.maps.values()
        if attribute != "exec_count":
            assert annotation == "HashMap[bytes, bytes]"
    for name, attribute in NAMES.items():
        if name not in {"", "data.section", "\U0001f600", "\udcff\x1b[2J"}:
            assert getattr(maps, attribute) is odd.maps[name], name
    assert maps.data_section_ is odd.maps["data.section"]


@pytest.mark.needs("module:mypy")
def test_objects_called_as_what_modules_import_get_classes_of_other_names(tmp_path: Path) -> None:
    names = {"group": "Group_", "map": "Map_", "object": "Object_", "program": "Program_", "skeleton": "Skeleton_"}
    for name, called in names.items():
        (tmp_path / f"{name}.py").write_text(of(native("execcount"), name=name))
        assert issubclass(getattr(executed((tmp_path / f"{name}.py").read_text()), called), Skeleton)
    assert mypy(tmp_path, *(f"{name}.py" for name in names)) == ""


@pytest.mark.needs("module:mypy", "tool:ruff")
def test_what_hostile_names_make_is_python_and_no_more(odd: rawbpf.ObjectSpec, tmp_path: Path) -> None:
    odd._content.name = 'evil"""; import os; """\\.o'
    text = skeleton(odd)
    tree = ast.parse(text)
    imported = {name for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) for name in [each.module or ""]}
    assert {name.partition(".")[0] for name in imported} == {"__future__", "rawbpf", "typing"}
    assert not [each for each in ast.walk(tree) if isinstance(each, ast.Import)]
    (tmp_path / "odd.py").write_text(text)
    assert mypy(tmp_path, "odd.py") == ""
    command = ["ruff", "format", "--isolated", "--no-cache", "--diff", "odd.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout == ""


def test_the_command_writes_the_module_whole_or_not_at_all(tmp_path: Path) -> None:
    path = native("execcount")
    status, out, err = run("skeleton", path, command="gen")
    assert (status, out, err) == (0, of(path), "")
    made = tmp_path / "made.py"
    status, out, err = run("skeleton", path, "-o", made, "--name", "counter", command="gen")
    assert (status, out, err) == (0, "", "")
    assert made.read_text() == of(path, name="counter")
    assert "class Counter(Skeleton):" in made.read_text()
    status, _, err = run("skeleton", path, "-o", "/dev/null", command="gen")
    assert (status, err) == (1, "rawbpf: /dev/null is no regular file; -o names the module\n")
    status, _, err = run("skeleton", path, "-o", path, command="gen")
    assert (status, err) == (1, f"rawbpf: {path} is what the module is made of; -o names another file\n")
    status, _, err = run("skeleton", path, "-o", "/nowhere/made.py", command="gen")
    assert (status, err) == (1, "rawbpf: /nowhere: No such file or directory\n")
    status, _, err = run("skeleton", path, "-o", made, "--event", "exec_count=x", command="gen")
    assert status == 1
    assert "has no ring buffer or perf event array 'exec_count'" in err
    assert made.read_text() == of(path, name="counter")
    assert os.listdir(tmp_path) == ["made.py"]


def test_the_module_of_the_documentation_is_as_it_would_be_written_now() -> None:
    committed = (BPF.parent / "docs/examples/how_to/generated/execcount.py").read_text()
    text = of(BPF / "execcount.bpf.o")
    # Another zlib may compress in another way.
    assert committed.partition("_OBJECT")[0] == text.partition("_OBJECT")[0]
    assert executed(committed).Execcount.open().spec.btf.raw == executed(text).Execcount.open().spec.btf.raw
