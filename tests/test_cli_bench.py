"""`rawbpf bench map` on the real kernel: every type, what the figures say, how it ends, and what it refuses."""

from __future__ import annotations

import io
import json
import re
import statistics
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from support.child import run_as_nobody
from support.command import run
from support.map_shapes import SMALLEST, needed

from rawbpf.cli import main
from rawbpf.cli.bench_map import KERNEL, MANY, ONE
from rawbpf.cli.bench_subject import NOT_MEASURED
from rawbpf.uapi.names import map_type_number

pytestmark = [
    pytest.mark.real_kernel("the running kernel is measured"),
    pytest.mark.needs("kernel", "capability:CAP_BPF", "capability:CAP_NET_ADMIN"),
]
LOOP = pytest.mark.needs("helper:syscall:loop")

_HASH = {"lookup, hit", "lookup, miss", "update", "delete"}
_ARRAY = {"lookup, hit", "update"}
_MANY_HASH = _HASH | {"read all", "read all, columns"}
_ALONE = {"the loop alone"}
_QUEUE = {"push", "peek", "pop"}
# By type: what is measured from user space, many at once, and inside the kernel.
MEASURED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "hash": (_HASH, _MANY_HASH, _HASH | _ALONE),
    "lru_hash": (_HASH, _MANY_HASH, _HASH | _ALONE),
    "percpu_hash": (_HASH, _MANY_HASH, _HASH | _ALONE),
    "lru_percpu_hash": (_HASH, _MANY_HASH, _HASH | _ALONE),
    "lpm_trie": (_HASH, _MANY_HASH, _HASH | _ALONE),
    "array": (_ARRAY, _ARRAY | {"read all", "read all, columns"}, _ARRAY | _ALONE),
    "percpu_array": (_ARRAY, _ARRAY | {"read all", "read all, columns"}, _ARRAY | _ALONE),
    "queue": (_QUEUE, set(), _QUEUE | _ALONE),
    "stack": (_QUEUE, set(), _QUEUE | _ALONE),
    "bloom_filter": ({"add", "in, added", "in, not added"}, set(), {"add", "in, added"} | _ALONE),
    "array_of_maps": (_HASH - {"lookup, miss"}, _ARRAY | {"read all", "delete"}, {"lookup, hit"} | _ALONE),
    "hash_of_maps": (_HASH, _HASH | {"read all"}, {"lookup, hit", "lookup, miss"} | _ALONE),
    "devmap": (_HASH - {"lookup, miss"}, _ARRAY | {"read all", "delete"}, {"lookup, hit"} | _ALONE),
    "devmap_hash": (_HASH, _HASH | {"read all"}, {"lookup, hit", "lookup, miss"} | _ALONE),
    "prog_array": (_HASH - {"lookup, miss"}, _ARRAY | {"read all", "delete"}, set()),
    "cpumap": (_HASH - {"lookup, miss"}, _ARRAY | {"read all", "delete"}, set()),
}
OTHERS = [*(word for word in SMALLEST if word not in MEASURED), "struct_ops"]


def bench(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """Return the JSON of `rawbpf bench map`, run in this process, so that what it leaves open is seen."""
    file = tmp_path / "bench.json"
    assert main(["bench", "map", "--json", str(file), *map(str, arguments)]) == 0
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def refused(*arguments: object) -> str:
    """Return the one line on stderr."""
    status, out, err = run("map", *arguments, command="bench")
    assert (status, out) == (1, ""), err
    assert err.count("\n") == 1
    return err.removeprefix("rawbpf: ").rstrip("\n")


@LOOP
@pytest.mark.parametrize("word", [pytest.param(word, marks=needed(word)) for word in MEASURED])
def test_every_type_that_has_elements_is_measured_in_each_way_that_it_has(
    word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = bench(tmp_path, "--type", word, "--entries", 8, "--operations", 20, "--rounds", 3)
    assert report["map"]["type"] == word
    found: dict[str, set[str]] = {ONE: set(), MANY: set(), KERNEL: set()}
    for each in report["measurements"]:
        found[each["where"]].add(each["operation"])
    assert tuple(found.values()) == MEASURED[word]
    # What is not measured of the usual operations is named, with a reason.
    assert all(each["operation"] and each["why"] for each in report["not_measured"])
    out = capfd.readouterr().out
    assert out.startswith(f"{word}, ")
    assert all(f"  {each['operation']}" in out for each in report["measurements"])


@pytest.mark.parametrize("word", OTHERS)
def test_other_types_say_why_nothing_of_them_is_measured(
    word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = bench(tmp_path, "--type", word)
    assert report["measurements"] == []
    (left_out,) = report["not_measured"]
    assert left_out["why"] == NOT_MEASURED[map_type_number(word)]
    assert f"  all operations: {left_out['why']}\n" in capfd.readouterr().out


@LOOP
def test_the_figures_agree_with_each_other(tmp_path: Path) -> None:
    report = bench(tmp_path, "--entries", 50, "--operations", 200, "--rounds", 5)
    about = report["map"]
    assert about.keys() == {"type", "key", "value", "max_entries", "elements", "flags", "memory", "many_path"}
    assert (about["type"], about["key"], about["value"], about["flags"]) == ("hash", "u32", "u64", [])
    assert (about["max_entries"], about["elements"]) == (50, 50)
    assert report["machine"].keys() == {"cpu", "cpus", "machine", "kernel", "jit", "python"}
    assert report["interrupted"] is False
    for each in report["measurements"]:
        ns, rounds = each["nanoseconds"], each["rounds"]
        assert len(rounds) == 5
        assert 0 < ns["min"] <= ns["median"] <= ns["max"]
        assert (ns["min"], ns["max"]) == (min(rounds), max(rounds))
        assert ns["median"] == pytest.approx(statistics.median(rounds), abs=0.011)
        # Each element is read, changed by a batch or deleted once; others are asked for again and again.
        once = each["operation"].startswith(("read", "delete")) or (each["where"], each["operation"]) == (
            MANY,
            "update",
        )
        assert each["operations"] == (50 if once else 200)


@LOOP
@pytest.mark.parametrize(
    ("options", "flags"),
    [
        pytest.param(["--type", "array", "--flags", "0"], [], id="array-not-mapped"),
        pytest.param(["--type", "array"], ["BPF_F_MMAPABLE"], id="array"),
        pytest.param(["--flags", "BPF_F_NO_PREALLOC|0x40"], ["BPF_F_NO_PREALLOC", "BPF_F_ZERO_SEED"], id="hash"),
        pytest.param(["--type", "lru_hash", "--flags", "no_common_lru"], ["BPF_F_NO_COMMON_LRU"], id="lru_hash"),
    ],
)
def test_flags_go_by_their_names_and_numbers(options: list[str], flags: list[str], tmp_path: Path) -> None:
    report = bench(tmp_path, *options, "--entries", 16, "--operations", 8, "--rounds", 1)
    assert report["map"]["flags"] == flags


@LOOP
@pytest.mark.parametrize(
    ("word", "key", "value", "types"),
    [
        ("hash", "16", "u64[8]", ("u8[16]", "u64[8]")),
        ("hash", "512", "1", ("u8[512]", "u8[1]")),
        ("hash", "char[16]", "f64", ("char[16]", "f64")),
        ("hash", "bool", "bool", ("bool", "bool")),
        ("percpu_hash", "u8", "12", ("u8", "per-CPU u8[12]")),
        ("lpm_trie", "ipv6", "u32", ("struct ipv6_prefix", "u32")),
    ],
)
def test_keys_and_values_are_of_any_type_and_size(
    word: str, key: str, value: str, types: tuple[str, str], tmp_path: Path
) -> None:
    report = bench(
        tmp_path, "--type", word, "--key", key, "--value", value, "--entries", 2, "--operations", 8, "--rounds", 1
    )
    about = report["map"]
    assert (about["key"], about["value"]) == types
    assert {each["operation"] for each in report["measurements"] if each["where"] == KERNEL} >= {"lookup, hit"}
    missed = [each for each in report["not_measured"] if each["operation"] == "lookup, miss"]
    assert bool(missed) == (key == "bool")


@LOOP
@pytest.mark.parametrize("word", ["lru_hash", "lru_percpu_hash"])
def test_an_lru_map_is_filled_by_half_so_that_it_drops_nothing(word: str, tmp_path: Path) -> None:
    report = bench(tmp_path, "--type", word, "--entries", 20_000, "--operations", 2000, "--rounds", 1)
    assert (report["map"]["max_entries"], report["map"]["elements"]) == (20_000, 10_000)
    hits = [each["operations"] for each in report["measurements"] if each["operation"] == "lookup, hit"]
    assert hits == [2000, 2000, 2000]


@LOOP
def test_json_goes_to_standard_output_in_place_of_the_table() -> None:
    status, out, err = run("map", "--entries", 8, "--operations", 8, "--rounds", 1, "--json", "-", command="bench")
    assert (status, err) == (0, "")
    assert json.loads(out)["map"]["type"] == "hash"


INTERRUPTED = """\
import os, signal, sys
from rawbpf.cli import bench_map, main
once, calls = bench_map.Measurement.once, 0
def counted(measurement):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.{signal})
    once(measurement)
bench_map.Measurement.once = counted
sys.exit(main())
"""


@LOOP
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_with_the_rounds_until_then(number: str) -> None:
    # The 16 measurements of a hash run once to warm up.
    code = INTERRUPTED.format(call=16 + 16 + 5, signal=number)
    options = ["--entries", 100, "--operations", 100, "--rounds", 1000]
    status, out, err = run("map", *options, "--json", "-", code=code, command="bench")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report["interrupted"] is True
    assert [len(each["rounds"]) for each in report["measurements"]] == [2] * 4 + [1] * 12
    status, out, err = run("map", *options, code=code, command="bench")
    assert (status, err) == (0, "")
    assert out.endswith("\ninterrupted: these are the rounds until then\n")


@LOOP
def test_a_signal_before_the_first_round_ends_it_without_a_word() -> None:
    code = INTERRUPTED.format(call=3, signal="SIGINT")
    assert run("map", "--entries", 8, code=code, command="bench") == (0, "", "")


@pytest.mark.parametrize("word", ["hash", "lpm_trie"])
def test_what_does_not_fit_into_memory_is_not_made(word: str) -> None:
    # A trie allocates as it fills, so that the kernel would make it.
    line = refused("--type", word, "--entries", 4_000_000_000)
    assert re.fullmatch(
        rf"{word}: 4,000,000,000 entries would take about \d+\.\d GiB of kernel memory, and the machine has "
        r"\d+\.\d [GM]iB available: ask for fewer --entries",
        line,
    )


@pytest.mark.parametrize(
    ("options", "because"),
    [
        pytest.param(["--type", "hahs"], "hahs: no map type 'hahs': did you mean hash?", id="type"),
        pytest.param(
            ["--key", "u8", "--entries", 257],
            "hash: there are only 256 different keys of type u8, and --entries asks for 257",
            id="too-few-keys",
        ),
        pytest.param(["--type", "queue", "--key", "u32"], "leave key= out", id="key-of-a-queue"),
        pytest.param(["--key", "nope"], "hash: 'nope' is no type: expected one of u8", id="no-such-key"),
        pytest.param(["--json", "/nowhere/x"], "/nowhere/x: No such file or directory", id="no-such-directory"),
        pytest.param(
            ["--type", "array", "--flags", "BPF_F_NO_PREALLOC"],
            "an array map does not take the flag BPF_F_NO_PREALLOC",
            id="wrong-flag",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_says_why(options: list[object], because: str) -> None:
    assert because in refused(*options)


@pytest.mark.parametrize(
    "options",
    [
        ["map", "--entries", "0"],
        ["map", "--operations", "2000000"],
        ["map", "--rounds", "many"],
        ["map", "--flags", "BPF_F_NOPE"],
        ["map", "--nope"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(options: list[object]) -> None:
    status, out, err = run(*options, command="bench")
    assert (status, out) == (2, "")
    assert err.startswith("usage: rawbpf bench map ")


def test_without_privileges_it_says_which_are_missing() -> None:
    def attempt() -> str:
        told = io.StringIO()
        with redirect_stderr(told):
            status = main(["bench", "map"])
        return f"{status}|{told.getvalue()}"

    status, _, err = run_as_nobody(attempt).partition("|")
    assert (status, err.count("\n")) == ("1", 1), err
    assert err.startswith("rawbpf: hash: no privileges: needs CAP_BPF")


def test_the_simulator_is_not_measured() -> None:
    code = "import os\nos.environ['RAWBPF_BACKEND'] = 'sim'\nfrom rawbpf.cli import main\nraise SystemExit(main())"
    status, out, err = run("map", code=code, command="bench")
    assert (status, out) == (1, "")
    assert err == "rawbpf: bench measures the running kernel, and RAWBPF_BACKEND asks for another: sim\n"
