"""The pytest plug-in: which kernel a test gets, what it lacks, and what a test leaves open.

Each test runs a small suite of its own: most in a process of its own, as users do.
"""

from __future__ import annotations

import errno
import re
import shutil
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support import seccomp

BPF = Path(__file__).resolve().parents[1] / "bpf"
# Where rawbpf is installed pytest finds the plug-in by itself.
FOUND = any(point.value == "rawbpf.testing.plugin" for point in entry_points(group="pytest11"))
OPTIONS = ["-p", "no:cacheprovider", *([] if FOUND else ["-p", "rawbpf.testing.plugin"])]

WHICH = """
import rawbpf
from rawbpf.syscall.current import current

def test_which(bpf_backend):
    print(f"it is {bpf_backend.name}")
    assert current() is bpf_backend
    with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
        m[1] = 2
        assert dict(m.items()) == {1: 2}
"""


@pytest.fixture(autouse=True)
def _nothing_is_chosen_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAWBPF_BACKEND", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, body: str, *options: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")
    pytester.makepyfile(body)
    return pytester.runpytest_subprocess(*OPTIONS, "-rs", "-s", *options)


@pytest.mark.real_kernel("the plug-in is told to take it")
@pytest.mark.needs("kernel")
class TestOnTheKernel:
    def test_one_option_chooses_it(self, pytester: pytest.Pytester) -> None:
        result = run(pytester, WHICH, "--bpf-backend=kernel")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*it is kernel*"])

    def test_the_environment_chooses_it_and_the_option_overrules(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAWBPF_BACKEND", "kernel")
        run(pytester, WHICH).stdout.fnmatch_lines(["*it is kernel*"])
        monkeypatch.setenv("RAWBPF_BACKEND", "sim")
        run(pytester, WHICH, "--bpf-backend=kernel").stdout.fnmatch_lines(["*it is kernel*"])

    def test_auto_is_the_kernel_where_it_allows(self, pytester: pytest.Pytester) -> None:
        run(pytester, WHICH, "--bpf-backend=auto").stdout.fnmatch_lines(["*it is kernel*"])

    def test_it_works_in_the_same_process_too(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(WHICH)
        result = pytester.runpytest_inprocess(*OPTIONS, "--bpf-backend=kernel")
        result.assert_outcomes(passed=1)

    def test_what_a_test_leaves_open_is_closed_and_fails_it(self, pytester: pytest.Pytester) -> None:
        body = """
        import os
        import rawbpf
        from rawbpf.asm import build

        kept = []

        def test_leaves(bpf_backend):
            kept.append(rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, name="quota"))
            kept.append(rawbpf.Program.load("socket_filter", [build.mov_imm(build.R0, 0), build.exit_()]))

        def test_after(bpf_backend):
            kept.append(os.open("/dev/null", os.O_RDONLY))
            assert all(each.closed for each in kept[:-1])
            kept[:-1] = []
            os.close(kept.pop())  # and nobody else has closed it
        """
        result = run(pytester, body, "--bpf-backend=kernel")
        result.assert_outcomes(passed=2, errors=1)
        told = next(line for line in result.outlines if line.startswith("left open by this test: "))
        assert re.search(r"\bmap 'quota' \(hash, id \d+, descriptor \d+\)", told)
        assert re.search(r"\bprogram \(socket_filter, id \d+, descriptor \d+\)", told)

    def test_nothing_is_left_where_everything_was_closed(self, pytester: pytest.Pytester) -> None:
        body = """
        import pytest
        import rawbpf

        @pytest.fixture
        def counts(bpf_backend):
            with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
                yield m

        def test_closes(counts):
            counts[1] = 1
            open(__file__).close()
        """
        run(pytester, body, "--bpf-backend=kernel").assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("strict", "outcomes"), [(False, {"passed": 1, "skipped": 1}), (True, {"passed": 1, "errors": 1})]
    )
    def test_what_the_kernel_lacks_is_skipped_or_fails(
        self, pytester: pytest.Pytester, strict: bool, outcomes: dict[str, int]
    ) -> None:
        body = """
        import pytest

        @pytest.mark.bpf_requires("map_type:hash", "prog_type:xdp", "helper:xdp:redirect", "kernel")
        def test_met(): pass

        @pytest.mark.bpf_requires("helper:socket_filter:override_return")
        def test_missing(): raise AssertionError("must not run")
        """
        result = run(pytester, body, "--bpf-backend=kernel", *["--bpf-strict"] * strict)
        result.assert_outcomes(**outcomes)
        result.stdout.fnmatch_lines(["*bpf_requires helper:socket_filter:override_return: unsupported: *"])

    @pytest.mark.needs("module:elftools")
    def test_an_object_file_is_loaded_and_closed_after_the_test(self, pytester: pytest.Pytester) -> None:
        for name in ("execcount.bpf.o", "lru_cache.bpf.o"):
            shutil.copy(BPF / name, pytester.path)
        body = """
        import pytest

        kept = []

        @pytest.mark.bpf_object("execcount.bpf.o", only=[])
        def test_mark(bpf_object):
            assert "exec_count" in bpf_object.maps and not list(bpf_object.programs)
            kept.append(bpf_object.maps["exec_count"])

        def test_factory(bpf_load, bpf_backend):
            one, other = bpf_load("lru_cache.bpf.o"), bpf_load("execcount.bpf.o", only=[])
            assert set(other.maps) >= {"exec_count"} and list(one.maps)
            kept.extend([*one.maps.values(), *other.maps.values()])

        def test_all_are_closed():
            assert len(kept) > 2 and all(m.closed for m in kept)

        def test_no_mark(bpf_object):
            pass
        """
        result = run(pytester, body, "--bpf-backend=kernel")
        result.assert_outcomes(passed=3, errors=1)
        result.stdout.fnmatch_lines(['*the fixture bpf_object loads what @pytest.mark.bpf_object("file.bpf.o") names*'])

    @pytest.mark.parametrize("strict", [False, True])
    def test_what_is_about_the_simulated_kernel_is_skipped_or_fails(
        self, pytester: pytest.Pytester, strict: bool
    ) -> None:
        body = "import pytest\n@pytest.mark.bpf_requires('sim')\ndef test_it(): pass\n"
        result = run(pytester, body, "--bpf-backend=kernel", *["--bpf-strict"] * strict)
        result.assert_outcomes(**{"errors" if strict else "skipped": 1})
        result.stdout.fnmatch_lines(["*bpf_requires sim: this is the running kernel*"])

    @pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
    def test_what_a_wider_fixture_opens_within_a_test_is_left_to_it(
        self, pytester: pytest.Pytester, scope: str
    ) -> None:
        body = f"""
        import pytest
        import rawbpf

        kept = []

        @pytest.fixture(scope={scope!r})
        def shared():
            with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
                yield m

        class TestShared:
            def test_first(self, bpf_backend, request):
                request.getfixturevalue("shared")[1] = 2

            def test_second(self, bpf_backend, shared):
                assert shared[1] == 2
                kept.append(rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, name="own"))
        """
        result = run(pytester, body, "--bpf-backend=kernel")
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.re_match_lines([r"left open by this test: map 'own' \(hash, id \d+, descriptor \d+\)$"])

    def test_an_object_of_another_kernel_is_not_taken_for_the_tests_own(self, pytester: pytest.Pytester) -> None:
        body = """
        import pytest
        import rawbpf
        from rawbpf.syscall.current import current

        @pytest.fixture(scope="session")
        def early():
            return current()

        @pytest.mark.bpf_requires("map_type:hash")
        def test_marked(early, request):
            assert early is not request.getfixturevalue("bpf_backend")
        """
        run(pytester, body, "--bpf-backend=kernel").assert_outcomes(passed=1)


class TestOnTheSimulator:
    def test_it_is_what_a_test_gets_unasked(self, pytester: pytest.Pytester) -> None:
        result = run(pytester, WHICH)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*it is sim*"])

    @pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
    def test_it_is_what_auto_gets_where_bpf_is_refused(self, pytester: pytest.Pytester, refusal: int) -> None:
        pytester.makepyfile(WHICH)
        pytester.makeini("[pytest]\n")
        done = seccomp.run_pytest(*OPTIONS, "-s", "--bpf-backend=auto", errno=refusal, cwd=pytester.path)
        assert "it is sim" in done.stdout
        assert "1 passed" in done.stdout

    def test_each_test_has_one_of_its_own(self, pytester: pytest.Pytester) -> None:
        body = """
        import pytest
        import rawbpf

        @pytest.mark.parametrize("n", [1, 2])
        def test_alone(bpf_backend, n):
            with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4) as m:
                assert m.id == 1

        @pytest.mark.bpf_simulator(cpus=3, release="5.10")
        def test_as_asked(bpf_backend):
            assert (bpf_backend.host.possible_cpus, bpf_backend.host.release[:4]) == (3, "5.10")
        """
        run(pytester, body).assert_outcomes(passed=3)

    def test_what_a_test_leaves_open_fails_it(self, pytester: pytest.Pytester) -> None:
        body = """
        import rawbpf

        kept = []

        def test_leaves(bpf_backend):
            kept.append(rawbpf.HashMap.create(key="u32", value="u32", max_entries=4, name="quota"))

        def test_closes(bpf_backend):
            assert kept.pop().closed
            with rawbpf.HashMap.create(key="u32", value="u32", max_entries=4):
                pass
        """
        result = run(pytester, body)
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.re_match_lines([r"left open by this test: map 'quota' \(hash, id 1, descriptor \d+\)$"])

    @pytest.mark.parametrize("phase", ["setup", "call"])
    def test_what_a_failed_test_leaves_open_is_closed_and_no_second_error(
        self, pytester: pytest.Pytester, phase: str
    ) -> None:
        body = f"""
        import pytest
        import rawbpf

        kept = []

        def opens_and_fails(phase):
            if phase == {phase!r}:
                kept.append(rawbpf.HashMap.create(key="u32", value="u32", max_entries=4))
                assert len(kept) == 2

        @pytest.fixture
        def opened(bpf_backend):
            opens_and_fails("setup")

        def test_fails(opened):
            opens_and_fails("call")

        def test_after():
            assert kept.pop().closed
        """
        result = run(pytester, body)
        result.assert_outcomes(passed=1, **{"errors" if phase == "setup" else "failed": 1})
        result.stdout.no_fnmatch_line("*left open*")

    def test_the_mark_brings_it_without_the_fixture(self, pytester: pytest.Pytester) -> None:
        body = """
        import pytest
        from rawbpf.syscall.current import current

        @pytest.mark.bpf_requires("sim")
        @pytest.mark.bpf_simulator(cpus=9)
        def test_it():
            assert (current().name, current().host.possible_cpus) == ("sim", 9)
        """
        run(pytester, body, "--bpf-strict").assert_outcomes(passed=1)

    @pytest.mark.parametrize("kernel", ["sim", pytest.param("kernel", marks=pytest.mark.needs("kernel"))])
    def test_an_option_of_it_without_a_name_is_an_error(self, pytester: pytest.Pytester, kernel: str) -> None:
        body = "import pytest\n@pytest.mark.bpf_simulator('5.10')\ndef test_it(): pass\n"
        result = run(pytester, body, f"--bpf-backend={kernel}")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*bpf_simulator('5.10'): expected named options, such as cpus=4*"])

    def test_what_needs_the_real_kernel_is_skipped(self, pytester: pytest.Pytester) -> None:
        body = "import pytest\n@pytest.mark.bpf_requires('kernel')\ndef test_it(): pass\n"
        run(pytester, body).assert_outcomes(skipped=1)


@pytest.mark.parametrize("need", ["magic:wand", "map_type", "helper:xdp", "kernel:6.1", ""])
def test_an_unknown_requirement_is_an_error_and_not_a_skip(pytester: pytest.Pytester, need: str) -> None:
    body = f"import pytest\n@pytest.mark.bpf_requires({need!r})\ndef test_it(): pass\n"
    result = run(pytester, body)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError*expected 'kernel', 'sim', 'map_type:ringbuf'*"])


def test_an_unknown_backend_is_a_usage_error_of_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(pytester, WHICH, "--bpf-backend=moon").ret == pytest.ExitCode.USAGE_ERROR
    monkeypatch.setenv("RAWBPF_BACKEND", "moon")
    result = run(pytester, WHICH)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = [line for line in (*result.outlines, *result.errlines) if line]
    assert told == ["ERROR: RAWBPF_BACKEND='moon': expected one of sim, kernel, auto"]
    run(pytester, WHICH, "--bpf-backend=sim").assert_outcomes(passed=1)


def test_tests_that_do_not_ask_for_it_import_nothing_of_rawbpf(pytester: pytest.Pytester) -> None:
    body = """
    import sys

    def test_it():
        loaded = {name for name in sys.modules if name.startswith("rawbpf.")}
        assert not loaded & {"rawbpf.map.base", "rawbpf.loader.spec", "rawbpf.features", "rawbpf.sim"}, loaded
    """
    run(pytester, body).assert_outcomes(passed=1)
