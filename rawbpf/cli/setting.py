"""`--set VAR=VALUE`: the text of a value as what the variable's C type takes. No kernel."""

from __future__ import annotations

from rawbpf.cli.failure import Failure
from rawbpf.codec import codec_for
from rawbpf.codec.enumeration import EnumCodec
from rawbpf.codec.scalar import TRUTH, FloatCodec, IntCodec
from rawbpf.codec.text import TextCodec
from rawbpf.errors import FormatError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rawbpf.codec import Codec
    from rawbpf.spec.variable import VariableSpec

_TRUTHS = {"true": 1, "false": 0}


def apply(settings: Sequence[tuple[str, str]], variables: Mapping[str, VariableSpec]) -> None:
    """Set each variable that is named to the value that its text means.

    Raises: Failure for an unknown name, with the names there are, and for a value that does not fit.
    """
    for name, written in settings:
        if name not in variables:
            known = f"its variables are {', '.join(sorted(variables))}" if variables else "it has no variables"
            raise Failure(f"--set {name}: the object has no such variable; {known}")
        variable = variables[name]
        try:
            if variable.type is None:
                raise TypeError("the object has no type for it; compile with -g")
            codec: Codec[object] = codec_for(variable.type, byteorder=variable.byteorder)
            variable.value = value_of(written, codec)
        except (TypeError, ValueError, OverflowError, FormatError, SpecError) as error:
            message = str(error).removeprefix(f"variable {name!r}: ")
            raise Failure(f"--set {name}={written}: {message}") from error


def value_of(written: str, codec: Codec[object]) -> object:
    """Return what `written` means to `codec`.

    Numbers may be hexadecimal (0x), octal (0o) or binary (0b), and `true` and `false`; enumerators go by
    name or number. Raises: ValueError for text that is no such value, TypeError for a type that takes none.
    """
    if isinstance(codec, TextCodec):
        return written
    try:
        if isinstance(codec, FloatCodec):
            return float(written)
        if isinstance(codec, EnumCodec) and written in dict(codec.values):
            return written
        if isinstance(codec, IntCodec):
            if codec.known is TRUTH:
                return bool(_TRUTHS[written]) if written in _TRUTHS else int(written, 0)
            return _TRUTHS[written] if written in _TRUTHS else int(written, 0)
    except ValueError:
        raise ValueError(f"expected {_expected(codec)}") from None
    raise TypeError(f"a value of type {codec.name} cannot be written on the command line")


def _expected(codec: Codec[object]) -> str:
    if isinstance(codec, EnumCodec):
        return f"one of {', '.join(dict(codec.values))}, or a number"
    if isinstance(codec, IntCodec) and codec.known is TRUTH:
        return "true or false"
    return f"a number ({codec.name})"
