"""Pins of the simulated bpf file system answer as those of a real one: names, places, flags, permissions, lifetimes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.bpffs import detached_bpffs
from support.twin import Side, agree

from rawbpf.sim import Simulator
from rawbpf.uapi import attr as a
from rawbpf.uapi import constants as c

pytestmark = pytest.mark.needs("kernel", "capability:CAP_SYS_ADMIN")


def _root(side: Side) -> Path:
    if isinstance(side.backend, Simulator):
        return Path(side.backend.bpffs)
    return side.stack.enter_context(detached_bpffs())


def _pin(side: Side, path: str | Path | bytes, fd: int, **more: int) -> int | str:
    text = ctypes.create_string_buffer(os.fsencode(path))
    return side.call(a.OBJ_PIN, **({"pathname": ctypes.addressof(text), "bpf_fd": fd} | more))[0]


def _get(side: Side, path: str | Path | bytes, **more: int) -> str:
    # "" and not a descriptor, which is closed again.
    text = ctypes.create_string_buffer(os.fsencode(path))
    result, _ = side.call(a.OBJ_GET, **({"pathname": ctypes.addressof(text)} | more))
    if isinstance(result, str):
        return result
    side.backend.close(result)
    return ""


def _objects(side: Side) -> dict[str, int]:
    assert side.make_map("map", c.BPF_MAP_TYPE_HASH) == ""
    assert side.load("program")[0] == ""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    side.stack.callback(os.close, null)
    return {**side.fds, "device": null, "closed": 1_000_000, "negative": -1}


def test_what_may_be_pinned_and_where(tmp_path: Path) -> None:
    def scenario(side: Side) -> Iterator[object]:
        root, fds = _root(side), _objects(side)
        (root / "dir").mkdir()
        (tmp_path / "file").touch()
        for name, fd in fds.items():
            yield name, _pin(side, root / name, fd), _get(side, root / name)
        places: list[str | Path] = [
            root / "map",
            root / "dir" / "map",
            root / "dir",
            root / "missing" / "map",
            root / "map" / "below",
            root / "a.b",
            root / ("n" * 255),
            root / ("n" * 256),
            f"{root}/trailing/",
            f"{root}/dir/../up",
            f"{root}/",
            tmp_path / "elsewhere",
            "/proc/self/elsewhere",
            "/proc/self/status",
            "/proc/elsewhere",
            "/proc/self/with.dot",
            "/sys/elsewhere",
            tmp_path / "file",
            tmp_path / "missing" / "map",
            "",
            ".",
            "..",
            "/",
            "relative",
            "x" * 5000,
        ]
        for at, place in enumerate(places):
            yield at, _pin(side, place, side.fds["map"]), _get(side, place)
        # A kernel may have files of its own there, whose names have dots.
        yield sorted(entry for entry in os.listdir(root) if "." not in entry)

    answers = agree(scenario)
    assert ("map", 0, "") in answers


def test_flags_and_directories_to_start_from(tmp_path: Path) -> None:
    def scenario(side: Side) -> Iterator[object]:
        root, fds = _root(side), _objects(side)
        (root / "dir").mkdir()
        directory = os.open(root / "dir", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path_only = os.open(root / "dir", os.O_PATH | os.O_CLOEXEC)
        for fd in (directory, path_only):
            side.stack.callback(os.close, fd)
        path_fd = c.BPF_F_PATH_FD
        for at in (directory, path_only, side.fds["map"], fds["device"], -1, -100, 1_000_000, 0):
            named = f"below-{0 if at in fds.values() else at if at < 0 else 'fd'}"
            yield _pin(side, named, side.fds["map"], file_flags=path_fd, path_fd=at)
            yield _get(side, named, file_flags=path_fd, path_fd=at)
            with suppress(OSError):
                os.unlink(named)
        yield _pin(side, root / "absolute", side.fds["map"], file_flags=path_fd, path_fd=directory)
        yield _pin(side, root / "no-flag", side.fds["map"], path_fd=directory)
        yield _get(side, root / "absolute", path_fd=directory), _get(side, root / "absolute", bpf_fd=side.fds["map"])
        for flags in (c.BPF_F_RDONLY, c.BPF_F_WRONLY, c.BPF_F_RDONLY | c.BPF_F_WRONLY, 1, 1 << 31, path_fd):
            yield flags, _pin(side, root / f"f{flags}", side.fds["map"], file_flags=flags)
            yield flags, _get(side, root / "absolute", file_flags=flags)
        yield _pin(side, root / "program", side.fds["program"])
        for flags in (0, c.BPF_F_RDONLY, c.BPF_F_WRONLY):
            yield flags, _get(side, root / "program", file_flags=flags)
        yield [_pin(side, "", fds[name], pathname=8) for name in ("device", "closed", "negative")]
        yield _pin(side, "", side.fds["map"], pathname=0), _pin(side, "", side.fds["map"], pathname=8)
        yield _get(side, "", pathname=0), _get(side, "", pathname=8)

    agree(scenario)


def test_a_pin_is_a_file_with_a_mode_names_and_an_end() -> None:
    def scenario(side: Side) -> Iterator[object]:
        root = _root(side)
        _objects(side)
        pin = root / "pin"
        yield _pin(side, pin, side.fds["map"])
        status = pin.stat()
        yield oct(status.st_mode), status.st_nlink, status.st_size, status.st_uid
        os.link(pin, root / "hard")
        os.symlink(pin, root / "soft")
        os.rename(pin, root / "renamed")
        yield _get(side, pin), _get(side, root / "hard"), _get(side, root / "renamed"), _get(side, root / "soft")
        os.unlink(root / "soft")
        os.symlink(root / "renamed", root / "soft")
        yield _get(side, root / "soft"), _pin(side, root / "soft", side.fds["map"])
        os.symlink(root / "loop", root / "loop")
        yield _get(side, root / "loop"), _get(side, root), _pin(side, root / "loop", side.fds["map"])
        number = side.info("map", "id")
        side.let_go("map")
        for name in ("hard", "renamed"):
            yield side.keep(name, side.call(a.MAP_GET_FD_BY_ID, map_id=number)[0])
            side.let_go(name)
            os.unlink(root / name)
        yield _get(side, root / "soft"), _get(side, root / "hard")

    answers = agree(scenario)
    assert answers[0] == 0


@pytest.mark.parametrize("flags", [0, c.BPF_F_RDONLY, c.BPF_F_WRONLY], ids=["rw", "r", "w"])
def test_what_was_opened_allows_what_was_asked_for(flags: int) -> None:
    def scenario(side: Side) -> Iterator[object]:
        root = _root(side)
        _objects(side)
        yield _pin(side, root / "pin", side.fds["map"])
        text = ctypes.create_string_buffer(os.fsencode(root / "pin"))
        yield side.keep("found", side.call(a.OBJ_GET, pathname=ctypes.addressof(text), file_flags=flags)[0])
        side._sizes["found"] = side._sizes["map"]
        yield side.update("found", bytes(4), bytes(4)), side.lookup("found", bytes(4)), side.next_key("found", None)
        yield side.delete("found", bytes(4)), side.call(a.MAP_FREEZE, map_fd=side.fds["found"])[0]
        yield _pin(side, root / "again", side.fds["found"]), _get(side, root / "again")
        yield side.backend.fdinfo(side.fds["found"]).splitlines()[1]

    agree(scenario)


def test_a_token_is_refused_outside_of_a_user_namespace() -> None:
    def scenario(side: Side) -> Iterator[object]:
        root = _root(side)
        _objects(side)
        (root / "dir").mkdir()
        for path in (root, root / "dir", Path("/")):
            for mode in (os.O_RDONLY, os.O_PATH):
                fd = os.open(path, mode | os.O_DIRECTORY | os.O_CLOEXEC)
                side.stack.callback(os.close, fd)
                yield (
                    mode,
                    side.call(a.TOKEN_CREATE, bpffs_fd=fd)[0],
                    side.call(a.TOKEN_CREATE, bpffs_fd=fd, flags=1)[0],
                )
        yield side.call(a.TOKEN_CREATE, bpffs_fd=side.fds["map"])[0], side.call(a.TOKEN_CREATE, bpffs_fd=-1)[0]

    assert (os.O_RDONLY, "EOPNOTSUPP", "EINVAL") in agree(scenario)
