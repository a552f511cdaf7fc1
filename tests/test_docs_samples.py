"""docs/: each sample runs on the real kernel and prints what its page shows; tables of idioms and names are true.

A sample is a Python file in a folder of docs/examples with, beside it, an .out file of what it prints,
in which `...` stands for anything. Pages have copies of sections of both, which docs/config/samples.py makes.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from support import cgroup_tree, network, printers
from support.bpffs import detached_bpffs

import rawbpf
from rawbpf.asm.build import exit_, mov_imm

pytestmark = pytest.mark.usefixtures("settled")

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
SAMPLES = sorted(each for each in EXAMPLES.glob("*/*.py") if each.parent.name != "testing")  # tests, for pytest
COMPILED = {
    "blocked",
    "choose",
    "co_re",
    "event_types",
    "inner_maps",
    "kernel_facts",
    "link_main",
    "networks",
    "openers",
    "per_task",
    "ports",
    "prints",
    "proxy",
    "refused",
    "run_tagged",
    "send_records",
    "sizes",
    "stacks",
    "steady",
    "tail_calls",
}
"""Samples that take the object that compile.sh makes of the C source beside them."""
MORE = {"link_main": ("link_count",)}
"""Those that take objects of others, too."""
LOOSE = {"co_re", "compile_openers", "openers", "refused", "keep_log", "missed"}
"""Samples whose numbers depend on the kernel and the compiler."""
NETWORKED = {"drop_ports", "no_datagrams", "redirect"}
"""Samples that take such an object, and a network and a cgroup of their own."""
PINNING = {"share_by_pin", "open_pin", "pin_below"}
NEWER = {
    "compile_openers": "tool:clang",
    "jump_table": "map_type:insn_array",
    "send_records": "map_type:user_ringbuf",
    "use_numpy": "module:numpy",
}
"""Samples of what not every kernel or machine has."""
UID = "12345"

PAGES = sorted(DOCS.rglob("*.md"))
COPIER = runpy.run_path(str(DOCS / "config/samples.py"))

needs_kernel = pytest.mark.needs("kernel", "capability:CAP_SETUID", "module:elftools")


def run(sample: Path, *arguments: str, uid: str = UID) -> str:
    # As a user runs it, but for the user's number: runs of this suite at the same time would count each other's.
    source = sample.read_text(encoding="utf-8").replace(UID, uid)
    command = [sys.executable, "-W", "error", "-c", source, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def matches(printed: str, sample: Path, uid: str = UID) -> bool:
    expected = COPIER["sample"](f"{sample.with_suffix('.out').relative_to(ROOT)}").replace(UID, uid)
    pattern = re.escape(expected.rstrip("\n")).replace(r"\.\.\.", r".*")
    if sample.stem in LOOSE:
        pattern = re.sub(r"(?<!\\)\d+", r"\\d+", pattern)
    return re.fullmatch(pattern, printed.rstrip("\n")) is not None


def compiled(sample: Path, directory: Path) -> str:
    made = directory / f"{sample.stem}.bpf.o"
    source = sample.with_suffix(".bpf.c").relative_to(ROOT)
    subprocess.run(["sh", EXAMPLES / "how_to/compile.sh", source, made], cwd=ROOT, check=True)
    return str(made)


@pytest.mark.real_kernel("the samples of the documentation run on the running kernel")
@needs_kernel
@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(
            sample,
            id=f"{sample.parent.name}/{sample.stem}",
            marks=[
                *[pytest.mark.needs("tool:clang", "file:/usr/include/bpf/bpf_helpers.h")] * (sample.stem in COMPILED),
                *[pytest.mark.needs(NEWER[stem]) for stem in NEWER if stem == sample.stem],
            ],
        )
        for sample in SAMPLES
        if sample.stem not in PINNING | NETWORKED
    ],
)
def test_a_sample_prints_what_its_page_shows(sample: Path, tmp_path: Path) -> None:
    stems = (sample.stem, *MORE.get(sample.stem, ())) if sample.stem in COMPILED else ()
    arguments = [compiled(sample.with_stem(stem), tmp_path) for stem in stems]
    alone = printers.trace_turn() if sample.stem == "prints" else nullcontext()
    # Users above it are counted too, so it lies above those of other tests.
    uid = str(4_200_000_000 + os.getpid())
    with alone:
        printed = run(sample, *arguments, uid=uid)
    assert matches(printed, sample, uid), printed


@pytest.mark.real_kernel("the samples of the documentation run on the running kernel")
@needs_kernel
@pytest.mark.needs(*network.NEEDS, *cgroup_tree.NEEDS, "tool:clang", "file:/usr/include/bpf/bpf_helpers.h")
@pytest.mark.parametrize("name", sorted(NETWORKED))
def test_a_sample_for_the_network_prints_what_its_page_shows(name: str, tmp_path: Path) -> None:
    sample = EXAMPLES / f"how_to/{name}.py"
    with network.namespace(), cgroup_tree.new_cgroup() as group:
        network.veth_pair("in", 1)
        network.veth_pair("out", 2)
        printed = run(sample, compiled(sample, tmp_path), str(group))
    assert matches(printed, sample), printed


@pytest.mark.real_kernel("the samples of the documentation run on the running kernel")
@needs_kernel
def test_a_map_pinned_by_one_sample_is_opened_by_the_other() -> None:
    with detached_bpffs() as directory:
        assert not run(EXAMPLES / "how_to/share_by_pin.py", str(directory))
        assert sorted(os.listdir(directory)) == ["maps.debug", "pinned_at_once", "progs.debug", "shared"]
        for name in ("open_pin", "pin_below"):
            sample = EXAMPLES / f"how_to/{name}.py"
            printed = run(sample, str(directory))
            assert matches(printed, sample), printed
        assert sorted(os.listdir(directory)) == ["maps.debug", "progs.debug"]


def shown() -> set[tuple[str, str | None]]:
    """Return path and section of each sample that a page shows."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return {(block["path"], block["section"]) for block in COPIER["SAMPLE"].finditer(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_shows_its_samples_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == COPIER["refreshed"](text), f"run: {COPIER['COMMAND']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_all_code_on_a_page_is_of_a_sample(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    samples = list(COPIER["SAMPLE"].finditer(text))
    assert text.count("<!-- sample:") == len(samples), "not followed by a fenced block"
    rest = COPIER["SAMPLE"].sub("", text)
    assert not re.search(r"^ *```(python|c|sh)$", rest, re.MULTILINE)
    assert "--8<--" not in text


def test_every_sample_on_a_page_is_run_or_compiled_by_a_test() -> None:
    run_here = {str(path.relative_to(ROOT)) for sample in SAMPLES for path in (sample, sample.with_suffix(".out"))}
    run_as_examples = {str(path.relative_to(ROOT)) for path in EXAMPLES.glob("*.py")}
    sources = {sample.with_suffix(".bpf.c") for sample in SAMPLES if sample.stem in COMPILED | NETWORKED}
    sources |= {EXAMPLES / f"how_to/{stem}.bpf.c" for stems in MORE.values() for stem in stems}
    compiled_here = {str(source.relative_to(ROOT)) for source in sources}
    objects = {str(path.relative_to(ROOT)) for path in (ROOT / "bpf").glob("*.[ch]")}
    tested = {str(path.relative_to(ROOT)) for path in EXAMPLES.glob("testing/*.py")}  # by test_docs_testing.py
    known = run_here | run_as_examples | tested | compiled_here | objects | {"docs/examples/how_to/compile.sh"}
    assert {path for path, _ in shown()} <= known


def test_every_output_belongs_to_a_sample_and_every_sample_is_on_a_page() -> None:
    on_pages = {path for path, _ in shown()}
    outputs = {path.with_suffix(".py") for path in EXAMPLES.glob("*/*.out")}
    assert outputs <= set(SAMPLES)
    for path in [*SAMPLES, *EXAMPLES.glob("*/*.c"), *EXAMPLES.glob("*/*.out"), *EXAMPLES.glob("*.py")]:
        name = str(path.relative_to(ROOT))
        if path.suffix == ".out" and path.stem == "missed":
            continue  # its numbers are explained, not shown
        assert name in on_pages, f"{name} is on no page"


def sections(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if (found := COPIER["MARKER"].match(line)) and found[1] == "start":
            yield found[2]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.parent.name}/{sample.stem}")
def test_every_section_of_a_sample_is_on_a_page(sample: Path) -> None:
    on_pages = shown()
    for path in (sample, sample.with_suffix(".out")):
        if not path.exists() or path.stem == "missed":
            continue
        name = str(path.relative_to(ROOT))
        missing = [section for section in sections(path) if (name, section) not in on_pages]
        assert not missing, f"{name}: {missing} are on no page"


def test_a_section_that_does_not_exist_is_an_error() -> None:
    for wanted in ("own_map.py#no_such", "no_such.py"):
        page = f"<!-- sample: docs/examples/tutorial/{wanted} -->\n```python\n```\n"
        with pytest.raises(ValueError, match="no_such"):
            COPIER["refreshed"](page)


def code_in_last_columns(page: str, heading: str) -> Iterator[str]:
    """Yield the code of the last column of the tables below `heading`, row by row."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for line in text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) > 1 and "on the command line" not in cells[-1]:
            yield from re.findall(r"`([^`]+)`", cells[-1])


@pytest.mark.real_kernel("the samples of the documentation run on the running kernel")
@needs_kernel
@pytest.mark.needs("capability:CAP_SYS_ADMIN")
@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("how-to/come-from-bcc.md", "Idioms"),
        ("how-to/come-from-libbpf-and-bpftool.md", "libbpf"),
        ("how-to/come-from-libbpf-and-bpftool.md", "bpftool"),
    ],
)
def test_the_idioms_of_a_table_run_one_after_the_other(
    page: str, heading: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with (
        rawbpf.ArrayMap.create(value="u64", max_entries=4) as array,
        rawbpf.PerCpuArrayMap.create(value="u64", max_entries=4) as percpu,
        rawbpf.HashMap.create(key="u32", value="u64", max_entries=4, name="exec_total") as counts,
        rawbpf.ProgArrayMap.create(max_entries=1) as jumps,
        rawbpf.QueueMap.create(value="u64", max_entries=1) as queue,
        rawbpf.StackTraceMap.create(max_entries=1) as stacks,
        rawbpf.Program.load("raw_tp/sched_switch", [mov_imm(0, 0), exit_()]) as program,
        program.attach() as link,
    ):
        names: dict[str, Any] = {"rawbpf": rawbpf, "array": array, "percpu": percpu, "counts": counts, "link": link}
        names |= {"jumps": jumps, "queue": queue, "stacks": stacks}
        names |= {"program": program, "map_id": counts.id, "pass_all": [mov_imm(0, 2), exit_()]}
        ran = 0
        try:
            for code in code_in_last_columns(page, heading):
                exec(code, names)
                ran += 1
        finally:
            for value in (names.get(name) for name in ("link", "other", "obj", "prog")):
                if value is not None:
                    value.close()
    assert ran >= 10
