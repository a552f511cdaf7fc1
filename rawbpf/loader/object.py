"""A loaded object: its open maps, programs and variables, and the links that attach the programs.

Owns what was made for it: `close()` detaches, then closes programs and maps. What is pinned stays.
"""

from __future__ import annotations

from rawbpf.spec.named import Named
from rawbpf.syscall.lifetime import mark, opened_at, warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import NoReturn, Self

    from rawbpf.link.base import Link
    from rawbpf.loader.struct_ops import Table
    from rawbpf.loader.variable import Section, Variable
    from rawbpf.map.constructors import AnyMap
    from rawbpf.program.program import Program
    from rawbpf.syscall.protocol import Backend


class Links(list["Link"]):
    """The links that one `attach()` made; `skipped` has (program name, why) of those it could not know how to.

    As a context manager it detaches them in reverse.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: list[tuple[str, str]] = []

    def close(self) -> None:
        """Detach all of them, the last first, also where one fails. Idempotent."""
        _close_all(reversed(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Object:
    """What `ObjectSpec.load` made: `maps`, `programs` and `variables` by name; `obj["name"]` finds any of them.

    `pinned` are those maps that loading pinned by their names; their pins stay when the object is closed.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.maps: Named[AnyMap] = Named("obj.maps", "its elements are {}[key]; load(maps=...) takes another map")
        self.programs: Named[Program] = Named("obj.programs", "edit the specification and load it")
        self.variables: Named[Variable] = Named("obj.variables", "set {}.value")
        self.pinned: list[AnyMap] = []
        self._links: list[Link] = []
        self._tables: dict[str, Table] = {}
        self._opened_at = opened_at()
        self._closed = False

    def __getitem__(self, name: str) -> AnyMap:
        """Return the map, program or variable called `name`. Raises: KeyError, which lists the names."""
        for kind in (self.maps, self.programs, self.variables):
            if name in kind:
                return kind[name]
        names = [*self.maps, *self.programs, *self.variables]
        raise KeyError(f"{self.name} has no map, program or variable {name!r}; it has {', '.join(names) or 'none'}")

    def __contains__(self, name: object) -> bool:
        return name in self.maps or name in self.programs or name in self.variables

    # Without it, `for x in obj` would ask for obj[0].
    __iter__ = None

    def add_program(self, program: Program) -> None:
        """Own `program`, under its name, and every link that it is attached by."""
        program._links = self._links
        self.programs.add(program.name, program)

    def add_table(self, name: str, table: Table) -> None:
        """Own the links of the struct_ops map called `name`, and let it be attached as `table` does it."""
        self._tables[name] = table
        self.maps[name]._register = table.attach

    def attach(self) -> Links:
        """Attach every loaded program whose section says where to, then every struct_ops map.

        Returns the links, which this object owns. Programs that need to be told are in `.skipped`, with the
        reason. When one fails, those that were attached are detached again.
        Raises: as `Program.attach` and `StructOpsMap.attach`.
        """
        links = Links()
        members = {id(program) for table in self._tables.values() for program in table.programs.values()}
        try:
            for name, program in self.programs.items():
                if id(program) in members:
                    continue
                obstacle = program.attach_obstacle
                if obstacle:
                    links.skipped.append((name, obstacle))
                else:
                    links.append(program.attach())
            for table in self._tables.values():
                links.append(table.attach())
        except BaseException:
            links.close()
            raise
        return links

    def take(self, name: str) -> AnyMap:
        """Return the map or program called `name` and leave it to the caller to close. Raises: KeyError."""
        for kind in (self.maps, self.programs):
            if name in kind:
                taken = kind.pop(name)
                if kind is self.programs:
                    taken._links = None
                elif name in self._tables:
                    self._tables.pop(name).links = None
                return taken
        raise KeyError(f"{self.name} has no map or program {name!r}")

    def close(self) -> None:
        """Detach the links, the last first, and close programs and maps, also where one fails. Idempotent."""
        self._closed = True
        links = self._links[::-1]
        self._links.clear()
        sections = [variable._section for variable in self.variables.values()]
        _close_all([*links, *self.programs.values(), *sections, *self.maps.values()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            try:
                warn_unclosed(self, self._opened_at)
            finally:  # where warnings are errors, too
                self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a loaded object cannot be copied or pickled: load its specification again")

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.programs)} programs, {len(self.maps)} maps"
        return f"<Object {self.name!r}: {state}{mark(self.backend)}>"


def _close_all(owned: Iterable[Link | Program | Section | AnyMap]) -> None:
    failed: BaseException | None = None
    for each in owned:
        try:
            each.close()
        except BaseException as error:  # noqa: BLE001  (raised once all others are closed)
            failed = failed or error
    if failed is not None:
        raise failed
