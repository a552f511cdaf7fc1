"""execcount.bpf.o as a module: `Execcount.load()`, or `Execcount.open()`, edit, and `.load()`.

Written by `rawbpf gen skeleton`: write it again when the object changes.
"""

from __future__ import annotations

from rawbpf.loader.skeleton import Group, Skeleton, SkeletonSpec, embedded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Unpack

    from rawbpf import HashMap, Object, Program
    from rawbpf.loader.spec import LoadOptions
    from rawbpf.loader.variable import Variable
    from rawbpf.spec import MapSpec, ProgramSpec, VariableSpec


class ExeccountMaps(Group):
    """The maps of the loaded object."""

    exec_count: HashMap[int, int]


class ExeccountPrograms(Group):
    """The programs of the loaded object."""

    count_execve: Program


class ExeccountVariables(Group):
    """The variables of the loaded object."""

    min_uid: Variable[int]
    dropped: Variable[int]


class ExeccountMapSpecs(Group):
    """The maps before loading."""

    exec_count: MapSpec


class ExeccountProgramSpecs(Group):
    """The programs before loading."""

    count_execve: ProgramSpec


class ExeccountVariableSpecs(Group):
    """The variables before loading."""

    min_uid: VariableSpec[int]
    dropped: VariableSpec[int]


class ExeccountSpec(SkeletonSpec):
    """What the object defines, to edit before it is loaded."""

    def __init__(self) -> None:
        super().__init__(embedded(_OBJECT, "execcount.bpf.o"))
        self.maps = ExeccountMapSpecs("spec.maps", self.spec.maps)
        self.programs = ExeccountProgramSpecs("spec.programs", self.spec.programs)
        self.variables = ExeccountVariableSpecs("spec.variables", self.spec.variables)

    def load(self, **options: Unpack[LoadOptions]) -> Execcount:
        """Load it: the options, and what it raises, are those of `ObjectSpec.load`."""
        return Execcount(self.spec.load(**options))


class Execcount(Skeleton):
    """The loaded object."""

    def __init__(self, obj: Object) -> None:
        super().__init__(obj)
        self.maps = ExeccountMaps("obj.maps", obj.maps)
        self.programs = ExeccountPrograms("obj.programs", obj.programs)
        self.variables = ExeccountVariables("obj.variables", obj.variables)

    @classmethod
    def open(cls) -> ExeccountSpec:
        """Return what the object defines, to edit before it is loaded."""
        return ExeccountSpec()

    @classmethod
    def load(cls, **options: Unpack[LoadOptions]) -> Execcount:
        """Load the object as it is: as `Execcount.open().load()` does."""
        return cls.open().load(**options)


_OBJECT = (
    b"eNqtV09MHFUY/2ZZYHf5t9Ci1Jh0SLQBgwvUlhBbDaVddBNSsWACxmQYZgdYuzu7mZ1FSFPlYA32"
    b"YDioJ6METTzSU3syrYk3Lxw1vfRqvHBoIhoNft+8b5i3z11oE1/y3vd+39/33rz3fbsfpScnIpoG"
    b"QdPgDwiR1FrC6RiPHah5C2cd2K3E4wPi9ijGZqegS9h17B8wfVnr8fn3msCPd+P9fd/+/rbQb44A"
    b"PD44OFD93QKh/44f9b/6979l3ACwX8P+XlTYkx80gW5ohqeJ2w0NPn44z/5Y/kXgXxN6PZFq+4dd"
    b"gjbCnwfwFO1Kxczr49NXBt+YmiT8ze8a9LCMYlCfC2NFGnidRKLirIOd+Asn1SjrNFbrHfpoCudV"
    b"NtAX6sRwOCXmsTgOp3mewOHFOn5bcTjLem04vMrz9sM7BVosnFPMKNlPh3uCWV436WTpe2Ffx77M"
    b"V/QBdkeotndIdrwNvuPQRmANO13Pm4LX2hXqJrrDeZzW1Cus20+yz37GrYyHBfZfUkw58x4+P9rz"
    b"CNudYrvXIz71L/OzbETxLkv8JPPpLDIS/5nwnOBtif8c8yke5BwPDOPStWuX5ozpzLtpY2ZuKm0Y"
    b"UMllDZJUXjkLFaecW3LsrE7KVrHieEI0ci4U5YvOkj+At1ayoWCuGrbjuTm7DNftNVgx8xUb7FXb"
    b"MnwHYHmr7IqYKzZ4rmnZpSKGGCyvlS0zny/ThLzYbqCUGqSJb5daKC2mLIj7C9Vx1F/TkWUs2Z5h"
    b"VVwX7QySLeWyff0XIJ5b1PtI66JeyDkk6UdvqUHhaxniVtEpezrvTi86NvobvkB85LDvglky8sXi"
    b"9UrJsPN2oQ/xgI7bC/z3+sr9+g2Ix23XLbqSXaWUNT272m5AP4OBBvTxqQnj6lvp2cz0DLkSvnwH"
    b"/YiedAXyEiBuGOU1xzIWbc9aNkwna5jZbJ8vHNCHUf0mGtTUOZN1i6WSnRVqfFjATLCWTRcmM5fT"
    b"V6fTkFoolyGFa8DRLeL+TMjnLNsp20EuCt73Se7P4yUc0sJ7fFt6gyf4Lt/md0dtB/uP9CA2hH6A"
    b"YxtCl/Bv2Fs3RfqR9UcleRPK30T6Dz1YDJicFLliR8ql8yzvRXniPYBVxhnETSjcYBy0LcazKG/x"
    b"RG4h/DniZjTeZbxNckxCe4x/JvnHWH8Y/4o4sikOgtbzF9WI70StJPw30oavjq8FDVx75LYTpBml"
    b"Xv3A/H1F/y7zk4o+nWWX5H+U5Sv+t2o85Eel793JtROkPP+hzw8rSIzp9z4/dshvY5oMc7JvNS/h"
    b"Zv4GMv5FwUGd5rwLj7RwnYT3JUz6yUiYmCleXySUUx0bkPapVdciH08peF7BJQWvK3hTwVsKvqPg"
    b"BwreVfAjBe8pGLRqnFSwruAhBY8puCPZ1XkCUp696mFKsPOp8ZmJFAEp9ctZI59fKVDWcbGMVNcD"
    b"sn6imhBkHDVTpcqe65kLSNcKPuUMFSzrMItNjo8PGSOCnBfkHPxP7ZOgyCvtfELQnxS+VgMHd19u"
    b"Y3XiRRWcOcZ+VAkYU/TSfO/VeOusGNz3dt5nTHm3X3J85ecurGq116vi0+xTPcN1rfZ6VfwCx69n"
    b"rx9j79Sx39Kq81S977ddg0ftDjM/jR69/6/rnP9urPo7trOeev4tdeJf5AsxpR0dv7lO/GScz08L"
    b"47fUiP8Snd3kQVFKdX4bSgT/d44+v89q3B1qm1xa9iS7Ril+8B/oX0OPlM8="
)
