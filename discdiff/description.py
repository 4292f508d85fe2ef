"""Objects as JSON values and back: how a model is stored in a run folder without pickle.

`describe` reads an object's constructor arguments off the attributes of the same names, by the convention
that an argument `x` is kept as `self.x`. `build` calls the constructor again; it builds only parts of a model,
and imports only discdiff, packages that offer it a domain, and what the program has imported by itself.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from discdiff.errors import CheckpointError, ConfigError
from discdiff.model import Diffusion
from discdiff.networks.base import Network
from discdiff.parameterizations import Parameterization
from discdiff.processes.base import Process
from discdiff.samplers.base import Sampler
from discdiff.samplers.predictor_corrector import Corrector
from discdiff.schedules import Schedule

# The only kinds of object that a description may name.
PARTS: tuple[type, ...] = (Diffusion, Network, Process, Schedule, Parameterization, Sampler, Corrector)
KEYS = {"class_path", "init_args"}
# What constructors raise at arguments of the wrong kind or size.
_OF_CONSTRUCTORS = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RuntimeError, MemoryError)


def describe(obj: object) -> dict[str, Any]:
    """`{"class_path": …, "init_args": {…}}` of a part of a model, in JSON values; so are the parts within it.

    Raises:
        ConfigError: the object is no part of a model, or its arguments cannot be read off it.
    """
    kind = type(obj)
    if not isinstance(obj, PARTS):
        raise ConfigError(f"{kind.__qualname__} is no part of a model; expected {_names(PARTS)}")
    arguments = {name: _value(obj, name) for name in _arguments(kind)}
    return {"class_path": class_path(kind), "init_args": arguments}


def build(description: object, expected: type | tuple[type, ...] = PARTS) -> Any:
    """The object that `describe` described.

    Args:
        description: mapping with exactly the keys `class_path` and `init_args`.
        expected: base class, or several, that the object must have.

    Raises:
        ConfigError: names what is malformed, unknown, of another kind, or refused by the constructor.
    """
    if not isinstance(description, Mapping) or set(description) != KEYS:
        got = list(description) if isinstance(description, Mapping) else type(description).__name__
        raise ConfigError(f"description: got {got}, expected the keys class_path and init_args")
    path, arguments = description["class_path"], description["init_args"]
    kind = find_class(path, expected)
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{path}: init_args: got {type(arguments).__name__}, expected a mapping")
    known = _arguments(kind)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" It takes {', '.join(known) or 'none'}."
            raise ConfigError(f"{path}: unknown argument {name!r}.{hint}")
    built = {name: _built(value) for name, value in arguments.items()}
    try:
        return kind(**built)
    except CheckpointError:  # of the weights that the object is built for
        raise
    except _OF_CONSTRUCTORS as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


def class_path(kind: type) -> str:
    """Dotted name of a class by the shortest package that exports it: files may then move within it."""
    parts = kind.__module__.split(".")
    for end in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:end]))
        if module is not None and getattr(module, kind.__name__, None) is kind:
            return f"{'.'.join(parts[:end])}.{kind.__name__}"
    raise ConfigError(f"{kind.__module__}.{kind.__qualname__}: expected a class at the top level of a module")


def find_class(path: object, expected: type | tuple[type, ...] = PARTS) -> type:
    """The class at a dotted path, if it is a concrete subclass of `expected`.

    Raises:
        ConfigError: the path names no such class, or one in a package that may not be imported.
    """
    bases = expected if isinstance(expected, tuple) else (expected,)
    module_name, _, name = str(path).rpartition(".")
    if not module_name:
        raise ConfigError(f"class_path: got {path!r}, expected a dotted name such as 'discdiff.Transformer'")
    package, *within = module_name.split(".")
    if module_name not in sys.modules and package not in _trusted():
        raise ConfigError(f"class_path {path!r}: package {package!r} is not loaded; import it first if you trust it")
    if "__main__" in within:  # to import it is to run it
        raise ConfigError(f"class_path {path!r}: names a program, expected a class of a module")
    try:
        kind = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"class_path {path!r}: {error}") from error
    if not isinstance(kind, type) or not issubclass(kind, bases) or inspect.isabstract(kind):
        raise ConfigError(f"class_path {path!r}: got {kind!r}, expected a concrete {_names(bases)}")
    return kind


def _trusted() -> set[str]:
    """Packages that may be imported by name: discdiff, and those that the user installed to extend it."""
    return {"discdiff", *(entry.module.split(".")[0] for entry in entry_points(group="discdiff.domains"))}


def _arguments(kind: type) -> list[str]:
    found = inspect.signature(kind).parameters.values()
    for parameter in found:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(f"{kind.__qualname__}: cannot be stored; its argument {parameter} has no name")
    return [parameter.name for parameter in found]


def _value(obj: object, name: str) -> Any:
    place = f"{type(obj).__qualname__}.{name}"
    try:
        value = getattr(obj, name)
    except AttributeError as error:
        raise ConfigError(f"{place}: a constructor argument must be kept under its own name to be stored") from error
    return _json(value, place)


def _json(value: object, place: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_json(item, place) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _json(item, place) for key, item in value.items()}
    if isinstance(value, PARTS):
        return describe(value)
    kind = type(value).__qualname__
    raise ConfigError(f"{place}: got {kind}, which has no JSON form; expected numbers, strings or lists")


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [_built(item) for item in value]
    if isinstance(value, Mapping):
        return build(value) if "class_path" in value else {key: _built(item) for key, item in value.items()}
    return value


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)


__all__ = ["build", "class_path", "describe", "find_class"]
