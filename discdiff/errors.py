"""The errors that discdiff raises: each says what it got, what it expected and what to do about it."""

from __future__ import annotations

import importlib
import reprlib
from numbers import Integral, Real
from types import ModuleType


class DiscdiffError(ValueError):
    """Base of every error that discdiff raises on purpose. The command line prints it without a traceback."""


class DiscdiffWarning(UserWarning):
    """What discdiff has to say of a result that it gives all the same. The command line prints it as a note."""


class IncompatibleError(DiscdiffError):
    """Two parts that cannot work together, refused before anything runs.

    Args:
        what: the combination, in words.
        got: what was passed.
        expected: what would have worked.
        remedy: what the user can do.
    """

    def __init__(self, what: str, *, got: object, expected: object, remedy: str) -> None:
        super().__init__(f"{what}: got {got}, expected {expected}. {remedy}")


def check_type(what: str, value: object, kinds: type | tuple[type, ...], remedy: str) -> None:
    """Refuse, before any work, an argument of another kind; True and False are no numbers.

    Raises:
        IncompatibleError: got, expected, remedy.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds):
        return
    expected = " or ".join(_WORDS.get(kind, kind.__name__) for kind in kinds)
    raise IncompatibleError(what, got=f"{type(value).__name__} {reprlib.repr(value)}", expected=expected, remedy=remedy)


_WORDS: dict[type, str] = {Integral: "an integer", Real: "a number", str: "a string"}


class DataError(DiscdiffError):
    """A fault in a user's data, with the place where it stands.

    Args:
        message: the fault.
        path: the file.
        record: name or 1-based number of the record.
        line: 1-based line.
        column: 1-based column (or position in the sequence).
        remedy: what the user can do.
    """

    def __init__(
        self,
        message: str,
        *,
        path: object | None = None,
        record: object | None = None,
        line: int | None = None,
        column: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message, self.path, self.record, self.line, self.column = message, path, record, line, column
        self.remedy = remedy
        named = {"record": record, "line": line, "column": column}
        where = ", ".join(
            ([str(path)] if path is not None else [])
            + [f"{name} {value}" for name, value in named.items() if value is not None]
        )
        super().__init__(": ".join(filter(None, [where, message])) + (f" ({remedy})" if remedy else ""))


class UnknownTokenError(DataError):
    """A symbol outside a domain's alphabet."""


class TemplateError(DiscdiffError):
    """A template that cannot be read; the message shows it with a caret under the fault.

    Args:
        message: the fault.
        template: the template as the user wrote it.
        column: 0-based column of the fault.
        remedy: what the user can do.
    """

    def __init__(self, message: str, *, template: str, column: int | None = None, remedy: str | None = None) -> None:
        self.message, self.remedy, self.template, self.column = message, remedy, template, column
        lines = [message + (f" ({remedy})" if remedy else "")]
        if template or column is not None:
            lines.append(f"  {template}")
        if column is not None:
            lines.append("  " + " " * column + "^")
        super().__init__("\n".join(lines))


class ConfigError(DiscdiffError):
    """A configuration that cannot be built."""


class EmptyLanguageError(DiscdiffError):
    """A constraint that no sequence satisfies."""


class CheckpointError(DiscdiffError):
    """A run folder or weight file that is missing, damaged, or of another version."""


class TrainingError(DiscdiffError):
    """Training that cannot go on, such as a loss that is not a number."""


class MissingDependencyError(DiscdiffError, ImportError):
    """An optional package that is not installed."""


def require(module: str, extra: str | None = None) -> ModuleType:
    """Import `module`, or say which command installs it.

    Args:
        module: dotted module name, such as `"rdkit.Chem"`.
        extra: the extra of discdiff that brings it, or None for a base dependency.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = f"discdiff[{extra}]" if extra else "discdiff"
        raise MissingDependencyError(
            f"{module.split('.')[0]} is needed here and could not be imported ({error}); pip install '{package}'"
        ) from error
