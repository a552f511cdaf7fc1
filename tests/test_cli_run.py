"""`rawbpf run` on the real kernel: what is piped, how it ends, and that nothing stays behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest
from support import kernel_ids
from support.command import BPF, FOREVER, run, running
from support.elf_writer import ElfWriter
from support.execs import execute_as

import rawbpf
from rawbpf.asm import build as b
from rawbpf.asm import encode
from rawbpf.cli.failure import Failure
from rawbpf.cli.watch import sources

NAMES = sorted(path.name.removesuffix(".bpf.o") for path in BPF.glob("*.bpf.o"))
EXECCOUNT = BPF / "execcount.bpf.o"
UID = 43210

pytestmark = [
    pytest.mark.real_kernel("the command line is used on the running kernel"),
    pytest.mark.needs("capability:CAP_SETUID", "capability:CAP_PERFMON", "module:elftools"),
]


def test_executions_of_a_user_appear_while_it_runs() -> None:
    with running(EXECCOUNT, "--interval", 0.05) as command:
        execute_as(UID, 20)
        command.wait_for(rf"^\d\d:\d\d:\d\d exec_count uid={UID} count=20$")
        execute_as(UID, 3)
        command.wait_for(rf"^\d\d:\d\d:\d\d exec_count uid={UID} count=23$")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_last_look_and_status_0(number: signal.Signals) -> None:
    with running(EXECCOUNT, "--interval", FOREVER) as command:
        execute_as(UID, 100)
        status, out, err = command.end(number)
    assert (status, err) == (0, "")
    assert f"exec_count uid={UID} count=100\n" in out


def test_a_shell_that_ignores_ctrl_c_for_its_background_does_not_keep_it_running() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with running(EXECCOUNT, "--interval", FOREVER) as command:
            assert command.end(signal.SIGINT)[0] == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_ends_after_its_duration_with_a_last_look() -> None:
    status, out, _ = run(EXECCOUNT, "--interval", FOREVER, "--duration", 0.05, "--json")
    assert status == 0
    assert len(out.splitlines()) == 1


def test_there_is_a_json_object_for_each_interval() -> None:
    with running(EXECCOUNT, "--interval", 0.05, "--json") as command:
        execute_as(UID, 7)
        seen = []
        for line in command.lines:
            seen.append(json.loads(line))
            if len(seen) > 2 and {"key": UID, "value": 7} in seen[-1]["maps"]["exec_count"]:
                break
    assert [set(one) for one in seen] == [{"time", "maps", "variables"}] * len(seen)
    times = [one["time"] for one in seen]
    assert times == sorted(set(times))
    assert {"key": UID, "value": 7} in seen[-1]["maps"]["exec_count"]


def test_the_greatest_count_comes_first() -> None:
    with running(EXECCOUNT, "--set", f"min_uid={UID}", "--interval", FOREVER, "--json") as command:
        execute_as(UID, 2)
        execute_as(UID + 1, 5)
        _, out, _ = command.end()
    elements = json.loads(out)["maps"]["exec_count"]
    assert elements == [{"key": UID + 1, "value": 5}, {"key": UID, "value": 2}]


@pytest.mark.parametrize("written", [str(UID), hex(UID)])
def test_a_variable_is_set_before_loading(written: str) -> None:
    with running(EXECCOUNT, "--set", f"min_uid={written}", "--interval", FOREVER, "--json") as command:
        execute_as(UID - 1, 3)
        execute_as(UID, 2)
        _, out, _ = command.end()
    assert json.loads(out)["maps"]["exec_count"] == [{"key": UID, "value": 2}]


def test_only_the_maps_that_are_named_are_shown() -> None:
    status, out, _ = run(BPF / "uid_filter.bpf.o", "--duration", 0.01, "--json", "--map", "counted_uids")
    assert (status, list(json.loads(out)["maps"])) == (0, ["counted_uids"])


@pytest.mark.parametrize("name", NAMES)
def test_every_object_runs_as_it_is(name: str) -> None:
    status, out, err = run(BPF / f"{name}.bpf.o", "--duration", 0.05)
    assert status == 0
    assert re.fullmatch(
        r"rawbpf: attached to tracepoint \w+/\w+(, tracepoint \w+/\w+)*; Ctrl-C ends\n",
        err,
    )
    assert out
    assert all(re.match(r"\d\d:\d\d:\d\d \w+ ", line) for line in out.splitlines())


def test_variables_that_are_not_zero_are_lines_when_they_change() -> None:
    _, out, _ = run(EXECCOUNT, "--set", "dropped=12", "--interval", 0.02, "--duration", 0.1)
    assert len(re.findall(r"^\d\d:\d\d:\d\d dropped=12$", out, re.MULTILINE)) == 1
    _, out, _ = run(EXECCOUNT, "--interval", 0.02, "--duration", 0.1)
    assert "dropped" not in out


def test_variables_are_in_json_but_constants_are_not() -> None:
    _, out, _ = run(EXECCOUNT, "--set", "dropped=12", "--set", "min_uid=7", "--duration", 0.01, "--json")
    assert json.loads(out)["variables"] == {"dropped": 12}


def test_pointers_are_no_variables_that_are_shown() -> None:
    _, out, _ = run(BPF / "exec_events.bpf.o", "--map", "parents", "--duration", 0.01, "--json")
    assert json.loads(out)["variables"] == {"dropped": 0}


def test_structs_are_objects_with_the_names_of_their_fields() -> None:
    with running(BPF / "exec_details.bpf.o", "--interval", FOREVER, "--json") as command:
        execute_as(UID, 3, "/bin/true")
        _, out, _ = command.end()
    (value,) = [each["value"] for each in json.loads(out)["maps"]["exec_details"] if each["key"] == UID]
    assert value.keys() == {"count", "last_ns", "comm"}
    assert (value["count"], value["comm"]) == (3, "true")


def test_the_values_of_all_cpus_are_a_total_and_a_list() -> None:
    script = f"import os; os.setuid({UID}); [os.write(1, b'12345') for _ in range(50)]"
    with running(BPF / "percpu_stats.bpf.o", "--interval", FOREVER, "--json") as command:
        subprocess.run(["/usr/bin/env", "python3", "-c", script], check=True, stdout=subprocess.DEVNULL)
        _, out, _ = command.end()
    (value,) = [each["value"] for each in json.loads(out)["maps"]["write_stats"] if each["key"] == UID]
    assert value["total"] == {"calls": 50, "bytes": 250, "errors": 0}
    assert sum(cpu["calls"] for cpu in value["cpus"]) == 50


def test_signals_times_and_users_are_named() -> None:
    with running(BPF / "signal_stats.bpf.o", "--interval", FOREVER) as command:
        subprocess.run(["/bin/sh", "-c", "kill -USR2 $$"], check=False)
        _, out, _ = command.end()
    assert re.search(r"signal=12\(SIGUSR2\) count=\d+\n", out)
    with running(BPF / "last_seen.bpf.o", "--interval", FOREVER) as command:
        execute_as(0, 1)
        _, out, _ = command.end()
    assert re.search(r"uid=0\(root\) last_seen=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\n", out)


def test_a_reader_that_goes_away_ends_it_quietly_and_at_once() -> None:
    with running(EXECCOUNT, "--interval", FOREVER) as command:
        assert command.process.stdout is not None
        command.process.stdout.close()
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        assert command.process.stderr.read() == ""


def test_a_reader_that_has_enough_after_a_line_ends_it_quietly() -> None:
    with running(EXECCOUNT, "--interval", 0.01) as command:
        next(command.lines)
        assert command.process.stdout is not None
        command.process.stdout.close()
        assert command.process.wait(timeout=30) == 0
        assert command.process.stderr is not None
        assert command.process.stderr.read() == ""


def test_a_reader_that_sleeps_does_not_keep_it_from_ending() -> None:
    with running(EXECCOUNT, "--interval", 0.01) as command:
        assert command.process.stdout is not None
        pipe = command.process.stdout.fileno()
        # Of one page: it takes nothing more as long as its first line is not read.
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        assert select.select([pipe], [], [], 30)[0]
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(timeout=30) == 1
        assert command.process.stderr is not None
        assert re.fullmatch(
            r"rawbpf: nobody reads standard output: its last \d+ bytes are lost\n", command.process.stderr.read()
        )


def test_a_full_disk_is_one_line_and_status_1() -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        status, _, err = run(EXECCOUNT, "--interval", 0.01, stdout=full)
    assert status == 1
    assert err.splitlines()[1:] == ["rawbpf: cannot write to standard output: No space left on device"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_in_the_kernel(number: signal.Signals) -> None:
    before = kernel_ids.ids()
    with running(EXECCOUNT, "--interval", 0.01) as command:
        next(command.lines)
        ours = {
            line.split()[1]
            for fd in os.listdir(f"/proc/{command.process.pid}/fd")
            for line in Path(f"/proc/{command.process.pid}/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
            if line.startswith("link_id:")
        }
        assert len(ours) == 1
        command.end(number)
    assert kernel_ids.left_over(kernel_ids.ids() - before) == set()


def test_ctrl_c_before_it_has_attached_ends_it_without_a_word() -> None:
    code = (
        "import os, signal, sys\n"
        "from rawbpf.cli import main\n"
        "from rawbpf.loader.spec import ObjectSpec\n"
        "load = ObjectSpec.load\n"
        "def slow(*arguments, **options):\n"
        "    with load(*arguments, **options):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    raise AssertionError('it went on')\n"
        "ObjectSpec.load = slow\n"
        "sys.exit(main())\n"
    )
    assert run(EXECCOUNT, code=code) == (0, "", "")


def test_what_does_not_say_where_to_attach_is_told_and_the_rest_runs(tmp_path: Path) -> None:
    writer = ElfWriter()
    body = encode([b.mov_imm(b.R0, 0), b.exit_()], "little")
    for section, name in (("tp/syscalls/sys_enter_getpgid", "good"), ("xdp", "needs_more"), ("no/such", "unknown")):
        writer.symbol(name, writer.code(section, body), size=len(body))
    writer.section("license", b"GPL\0")
    path = tmp_path / "mixed.o"
    path.write_bytes(writer.build())
    status, out, err = run(path, "--duration", 0.01, "--json")
    told = err.splitlines()
    assert (status, json.loads(out)["maps"]) == (0, {})
    assert told[0] == "rawbpf: not loaded: unknown: its section 'no/such' names no program type"
    assert told[1].startswith("rawbpf: not attached: needs_more: ")
    assert told[2:] == ["rawbpf: attached to tracepoint syscalls/sys_enter_getpgid; Ctrl-C ends"]


@pytest.mark.needs("map_type:user_ringbuf", "prog_type:syscall")
def test_maps_that_make_no_table_are_told_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    spec = rawbpf.ObjectSpec.from_file(Path(__file__).parent / "objects" / "rings.bpf.o")
    with spec.load() as obj:
        assert sources(spec, obj, ["events", "answers"], asked=False) == []
        assert capsys.readouterr().err.splitlines() == [
            "rawbpf: not shown: events: a perf_event_array has no elements that make a table",
            "rawbpf: not shown: answers: a ringbuf has no elements that make a table",
        ]
        with pytest.raises(Failure, match=r"^--map answers: a ringbuf has no elements that make a table$"):
            sources(spec, obj, ["answers"], asked=True)
