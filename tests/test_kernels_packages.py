"""What a guest is made of: Debian's packages, found, checked, unpacked, and written into an archive."""

from __future__ import annotations

import lzma
import stat
import tarfile
from pathlib import Path

import pytest
from kernels import deb, kernel, userland
from kernels.cpio import Entry, archive, link
from kernels.debian import Archive, Unavailable
from kernels.target import TARGETS
from support.deb_writer import offer, package


def _info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.mode = mode
    return info


# What init/initramfs.c reads: header fields in hex, name and content each padded to four bytes.
def _read(written: bytes) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    at = 0
    while True:
        assert written[at : at + 6] == b"070701"
        fields = [int(written[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = written[at + 110 : at + 110 + fields[11]]
        at += -(-(110 + fields[11]) // 4) * 4
        assert name[-1:] == b"\0"
        if name == b"TRAILER!!!\0":
            assert not written[at:].strip(b"\0")
            return found
        found[name[:-1].decode()] = Entry(written[at : at + fields[6]], fields[1])
        at += -(-fields[6] // 4) * 4


@pytest.mark.parametrize("size", range(6))
def test_an_archive_has_files_links_and_the_folders_that_they_are_in(size: int) -> None:
    files = {"a/b/c" + "x" * size: Entry(bytes(range(size)), stat.S_IFREG | 0o755), "a-link": link("a/b")}
    read = _read(archive(files))
    assert {name: read[name] for name in files} == files
    assert [name for name, entry in read.items() if stat.S_ISDIR(entry.mode)] == ["a", "a/b"]
    assert list(read).index("a") < list(read).index("a/b") < list(read).index("a/b/c" + "x" * size)


def test_archives_can_follow_each_other() -> None:
    assert len(archive({"init": Entry(b"1")})) % 512 == 0


@pytest.mark.parametrize("name", ["", "/init"], ids=["empty", "absolute"])
def test_an_archive_takes_no_path_from_the_root(name: str) -> None:
    with pytest.raises(ValueError, match="expected a path below the root folder"):
        archive({name: Entry(b"")})


def test_a_package_gives_its_files_and_links_and_leaves_devices_out() -> None:
    content = package(
        [
            (_info("./usr/bin/tool"), b"run"),
            (_info("./usr/bin/same", tarfile.LNKTYPE, "./usr/bin/tool"), b""),
            (_info("./usr/bin/other", tarfile.SYMTYPE, "tool"), b""),
            (_info("./usr", tarfile.DIRTYPE), b""),
            (_info("./dev/null", tarfile.CHRTYPE), b""),
        ]
    )
    run = Entry(b"run", stat.S_IFREG | 0o755)
    assert dict(deb.files(content)) == {"usr/bin/tool": run, "usr/bin/same": run, "usr/bin/other": link("tool")}


def test_a_damaged_package_is_named_as_one_wherever_it_ends() -> None:
    whole = package([(_info("./a"), b"content")])
    for size in range(len(whole) - 1):
        with pytest.raises(deb.BadPackage):
            list(deb.files(whole[:size]))
    # The last byte only pads.
    assert list(deb.files(whole)) == list(deb.files(whole.rstrip(b"\n")))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    offer(
        folder,
        "suite",
        "s390x",
        {
            "python": (b"snake", "libc (>= 2.3), dpkg | other, tool:any"),
            "libc": (b"sea", ""),
            "tool": (b"hammer", "python, libc"),
            "dpkg": (b"huge", "not-there"),
        },
    )
    return folder


def test_packages_are_found_with_what_they_depend_on(mirror: Path, tmp_path: Path) -> None:
    source = Archive(tmp_path / "cache", [mirror.as_uri()])
    found = source.index("suite", "s390x").closure(["python"], lambda name: name != "dpkg")
    assert [package.name for package in found] == ["libc", "python", "tool"]
    assert found[1].version == "1.0-1"
    assert source.fetch(found[1].url, found[1].sha256) == b"snake"


def test_the_mirror_that_has_the_suite_is_taken(mirror: Path, tmp_path: Path) -> None:
    empty = (tmp_path / "empty").as_uri()
    assert Archive(tmp_path / "cache", [empty, mirror.as_uri()]).index("suite", "s390x").package("libc").version


@pytest.mark.parametrize(
    ("suite", "arch", "name", "said"),
    [
        ("other", "s390x", "libc", "other/InRelease"),
        ("suite-security", "s390x", "libc", "debian-security/dists/suite-security/InRelease"),
        ("suite", "vax", "libc", "has no suite for vax"),
        ("suite", "s390x", "not-there", "lists no package not-there"),
    ],
    ids=["suite", "security", "architecture", "package"],
)
def test_what_the_archive_lacks_is_named(
    mirror: Path, tmp_path: Path, suite: str, arch: str, name: str, said: str
) -> None:
    with pytest.raises(Unavailable, match=said):
        Archive(tmp_path / "cache", [mirror.as_uri()]).index(suite, arch).package(name)


def test_a_file_that_is_not_what_the_index_says_is_refused(mirror: Path, tmp_path: Path) -> None:
    source = Archive(tmp_path / "cache", [mirror.as_uri()])
    libc = source.index("suite", "s390x").package("libc")
    (mirror / "debian/pool/libc.deb").write_bytes(b"else")
    with pytest.raises(Unavailable, match=f"has the SHA256 .*, the index says {libc.sha256}"):
        source.fetch(libc.url, libc.sha256)


def test_a_damaged_file_in_the_cache_is_fetched_again(mirror: Path, tmp_path: Path) -> None:
    source = Archive(tmp_path / "cache", [mirror.as_uri()])
    libc = source.index("suite", "s390x").package("libc")
    source.fetch(libc.url, libc.sha256)
    (tmp_path / "cache/files" / libc.sha256).write_bytes(b"else")
    assert source.fetch(libc.url, libc.sha256) == b"sea"


def test_an_index_that_changed_since_its_release_is_found_by_digest(mirror: Path, tmp_path: Path) -> None:
    index = mirror / "debian/dists/suite/main/binary-s390x/Packages.xz"
    index.write_bytes(lzma.compress(b"Package: later\n"))
    assert Archive(tmp_path / "cache", [mirror.as_uri()]).index("suite", "s390x").package("libc").name == "libc"
    index.with_name("by-hash").rename(mirror / "away")
    with pytest.raises(Unavailable, match="by-hash"):
        Archive(tmp_path / "other", [mirror.as_uri()]).index("suite", "s390x")


def test_without_a_network_the_cache_has_all_that_was_used(mirror: Path, tmp_path: Path) -> None:
    source = Archive(tmp_path / "cache", [mirror.as_uri()])
    libc = source.index("suite", "s390x").package("libc")
    source.fetch(libc.url, libc.sha256)
    mirror.rename(tmp_path / "away")
    later = Archive(tmp_path / "cache", [mirror.as_uri()])
    assert later.index("suite", "s390x").package("libc") == libc
    assert later.fetch(libc.url, libc.sha256) == b"sea"


def _module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"


def test_modules_are_loaded_after_those_that_they_depend_on() -> None:
    files = {
        "usr/lib/modules/6/kernel/a/virtio-console.ko.xz": Entry(lzma.compress(_module("virtio,virtio-ring"))),
        "usr/lib/modules/6/kernel/a/virtio.ko": Entry(_module("")),
        "usr/lib/modules/6/kernel/a/virtio_ring.ko": Entry(_module("virtio")),
        "usr/lib/modules/6/kernel/a/unwanted.ko": Entry(_module("")),
        "usr/lib/modules/6/kernel/a/for_a_test.ko": Entry(_module("virtio,library")),
        "usr/lib/modules/6/kernel/a/library.ko": Entry(_module("")),
    }
    found = kernel.modules(files, ["virtio_console", "built_in"], ["for_a_test"])
    assert found["modules/order"].content == b"virtio.ko\nvirtio_ring.ko\nvirtio_console.ko\n"
    assert found["modules/virtio_console.ko"].content == _module("virtio,virtio-ring")
    assert set(found) == {
        "modules/order",
        *(f"modules/{name}.ko" for name in ("virtio", "virtio_ring", "virtio_console", "for_a_test", "library")),
    }


def test_a_kernel_is_taken_from_the_first_suite_that_can_give_it(tmp_path: Path) -> None:
    target = TARGETS["6.12-s390x"]
    image = package([(_info("./boot/vmlinuz-6.12.1"), b"image"), (_info("./lib/modules/6.12.1/kernel/veth.ko"), b"")])
    packages = {
        target.kernel: (package([]), "linux-image-6.12.1-s390x (= 1), initramfs-tools"),
        "linux-image-6.12.1-s390x": (image, "kmod"),
    }
    for suite in target.suites[:2]:
        mirror = tmp_path / suite
        offer(mirror, suite, "s390x", packages)
    (tmp_path / target.suites[0] / "debian/pool/linux-image-6.12.1-s390x.deb").unlink()
    (tmp_path / target.suites[1] / "debian").rename(tmp_path / target.suites[1] / "debian-security")
    source = Archive(tmp_path / "cache", [(tmp_path / suite).as_uri() for suite in target.suites[:2]])
    made = kernel.kernel(target, source, tmp_path / "cache")
    assert made.image.read_bytes() == b"image"
    assert "modules/veth.ko" in _read(made.modules.read_bytes())
    assert kernel.kernel(target, source, tmp_path / "cache") == made
    with pytest.raises(Unavailable, match=r"trixie: .*; trixie-security: .*; bookworm-backports: "):
        kernel.kernel(target, Archive(tmp_path / "none", [(tmp_path / "empty").as_uri()]), tmp_path / "none")


def test_a_guest_has_one_usr_with_links_to_it() -> None:
    files = {
        "bin/dash": Entry(b"shell"),
        "usr/lib/x/libc.so": Entry(b"libc"),
        "usr/share/doc/x": Entry(b"words"),
        "usr/lib/python3.11/idlelib/a.py": Entry(b""),
    }
    made = userland.debian(files)
    assert made["usr/bin/dash"].content == b"shell"
    assert made["bin"] == link("usr/bin")
    assert made["usr/bin/sh"] == link("dash")
    assert "usr/lib/x/libc.so" in made
    assert not {"usr/share/doc/x", "usr/lib/python3.11/idlelib/a.py"} & made.keys()


def test_bytecode_is_what_python_takes_without_a_look_at_the_source(tmp_path: Path) -> None:
    import importlib.util

    code = userland.bytecode(b"value = 7\n", "/gone.py")
    assert code is not None
    compiled = tmp_path / "gone.pyc"
    compiled.write_bytes(code)
    spec = importlib.util.spec_from_file_location("gone", compiled)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.value == 7
    assert userland.bytecode(b"not: python", "/x.py") is None


def test_requirements_of_extras_and_other_pythons_are_left_out() -> None:
    lines = ["pluggy<2,>=1.6", "iniconfig>=2", "tomli>=1; python_version < '3.11'", "numpy; extra == 'dev'", "six"]
    assert userland.required(lines) == ["pluggy", "iniconfig", "six"]
