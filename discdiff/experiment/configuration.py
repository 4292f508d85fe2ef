"""Configuration files: strict YAML, keys that must exist, names of classes, overrides.

A configuration is a nested mapping of a dataclass's fields. A field whose type is a base class (or a callable
that returns one) is a choice: `Name`, or `{class_path: Name, init_args: {…}}`. A misspelt key is refused with
its full path.
"""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from discdiff.domain import Domain
from discdiff.errors import ConfigError

CHOICE_KEYS = ("class_path", "init_args")


# ---- YAML ------------------------------------------------------------------------------------------------
class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key may not occur twice, and 1e-4 is a number."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if key in seen:
                raise ConfigError(f"line {line}: the key {key!r} stands twice (first on line {seen[key]})")
            seen[key] = line
        return dict(super().construct_mapping(node, deep))


# YAML 1.1 wants a dot in a float; people write 1e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse_yaml(text: str, what: str) -> Any:
    """The value of a YAML text; `what` names it in errors.

    Raises:
        ConfigError: with the line of the fault.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except ConfigError as error:
        raise ConfigError(f"{what}, {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{what}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{what}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: missing, empty, not text, no mapping, or a key that stands twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such configuration file.{_hint(path.name, beside)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file (byte offset {error.start} is not UTF-8)") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    values = parse_yaml(text, str(path))
    if values is None:
        raise ConfigError(f"{path}: the file is empty; expected keys such as 'domain' and 'data'")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: got a {type(values).__name__}, expected keys and values ('domain: dna')")
    return values


# ---- merging ---------------------------------------------------------------------------------------------
def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; where `over` chooses another class, the arguments of the first go."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, str) and isinstance(old, Mapping) and "class_path" in old:
            value = {"class_path": value}
        if isinstance(old, str) and isinstance(value, Mapping) and "init_args" in value:
            old = {"class_path": old}
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            changed = "class_path" in value and value["class_path"] != old.get("class_path")
            merged[key] = dict(value) if changed else merge(old, value)
        else:
            merged[key] = value
    return merged


def overrides(arguments: Iterable[str], kind: type) -> dict[str, Any]:
    """The nested mapping that command-line options such as `--training.max_steps 100` state.

    Args:
        arguments: `--key value` or `--key=value`; values are YAML.
        kind: the dataclass that is configured; `--network.dim` means `network.init_args.dim`.
    """
    stated: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        name, equals, text = word.partition("=")
        if not name.startswith("--") or not name[2:]:
            raise ConfigError(f"unexpected argument {word!r}")
        if not equals:
            try:
                text = next(words)
            except StopIteration:
                raise ConfigError(f"{name}: a value is missing") from None
        value = parse_yaml(text, name)
        for key in reversed(_full_key(name[2:].replace("-", "_").split("."), kind)):
            value = {key: value}
        stated = merge(stated, value)
    return stated


def _full_key(keys: list[str], kind: type) -> list[str]:
    """A dotted key with the `init_args` that may be left out."""
    annotation = typing.get_type_hints(kind).get(keys[0])
    rest = keys[1:]
    if annotation is None or not rest:
        return keys
    annotation = _plain(annotation)
    if is_dataclass(annotation) and isinstance(annotation, type):
        return [keys[0], *_full_key(rest, annotation)]
    if _base_of(annotation) and rest[0] not in CHOICE_KEYS:
        return [keys[0], "init_args", *rest]
    return keys


# ---- checking --------------------------------------------------------------------------------------------
def resolve(values: Mapping[str, Any], kind: type, *, place: str = "") -> dict[str, Any]:
    """`values` with every choice as a full `{class_path, init_args}`, after a check of every key.

    Raises:
        ConfigError: with the full path of an unknown key or class, and the nearest known one.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name: _plain(hints[field.name]) for field in fields(kind) if field.init}
    resolved = {}
    for key, value in values.items():
        path = f"{place}{key}"
        if key not in known:
            raise ConfigError(f"unknown key {path!r}.{_hint(str(key), known, place)}")
        annotation = known[key]
        base = _base_of(annotation)
        if base is not None and value is not None:
            value = _resolve_choice(value, base, len(_given(annotation)), path)
        elif is_dataclass(annotation) and isinstance(annotation, type) and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: got {value!r}, expected keys: {', '.join(_names(annotation))}")
            value = resolve(value, annotation, place=f"{path}.")
        resolved[str(key)] = value
    return resolved


def arguments(class_path: str) -> list[str]:
    """Names of the constructor arguments of a class."""
    module, _, name = class_path.rpartition(".")
    return list(inspect.signature(getattr(import_module(module), name)).parameters)


def _resolve_choice(value: Any, base: type, given: int, path: str) -> dict[str, Any]:
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: got {value!r}, expected a name, or class_path and init_args")
    for key in value:
        if key not in CHOICE_KEYS:
            hint = _hint(str(key), CHOICE_KEYS) if difflib.get_close_matches(str(key), CHOICE_KEYS) else (
                f" Arguments go under {path}.init_args."
            )  # fmt: skip
            raise ConfigError(f"unknown key '{path}.{key}'.{hint}")
    if "class_path" not in value:
        known = ", ".join(sorted(_classes(base)))
        raise ConfigError(f"{path}: class_path is missing; expected one of {known}")
    kind = _class(value["class_path"], base, f"{path}.class_path")
    arguments = value.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{path}.init_args: got {arguments!r}, expected a mapping")
    names = list(inspect.signature(kind).parameters)
    for key in arguments:
        full = f"{path}.init_args.{key}"
        if key in names[:given]:
            raise ConfigError(f"{full}: this number follows from the rest of the configuration; leave it out")
        if key not in names:
            raise ConfigError(f"unknown key {full!r}.{_hint(str(key), names[given:], f'{path}.init_args.')}")
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": _parts(kind, arguments, path)}


def _parts(kind: type, arguments: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Arguments of a class, those that are choices themselves (a sampler within a sampler) in full."""
    hints = typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    resolved = dict(arguments)
    for key, value in arguments.items():
        annotation = _plain(hints.get(key))
        if value is not None and (base := _base_of(annotation)) is not None:
            resolved[key] = _resolve_choice(value, base, len(_given(annotation)), f"{path}.init_args.{key}")
    return resolved


def _class(name: Any, base: type, path: str) -> type:
    found = _classes(base)
    kind: Any = found[name]() if name in found else None
    if kind is None and isinstance(name, str) and "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            kind = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{path}: {name!r} cannot be imported ({error})") from error
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise ConfigError(f"{path}: no {base.__name__.lower()} {name!r}.{_hint(str(name), found)}")
    return kind


def _classes(base: type) -> dict[str, Callable[[], type]]:
    """Short names of the concrete classes under a base; domains go by the names of their entry points."""
    if base is Domain:
        return {entry.name: entry.load for entry in entry_points(group="discdiff.domains")}
    return {kind.__name__: partial(_same, kind) for kind in _below(base) if not _abstract(kind)}


def _abstract(kind: type) -> bool:
    return inspect.isabstract(kind)


def _same(kind: type) -> type:
    return kind


def _below(base: type) -> Iterator[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _below(kind)


def _plain(annotation: Any) -> Any:
    """A type without its `| None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return parts[0] if len(parts) == 1 else annotation
    return annotation


def _given(annotation: Any) -> list[Any]:
    """The types of the arguments that `Callable[[…], Base]` leaves to the program."""
    return list(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is Callable else []


def _base_of(annotation: Any) -> type | None:
    """The base class that a choice must have, or None if the field is no choice."""
    result = typing.get_args(annotation)[1] if typing.get_origin(annotation) is Callable else annotation
    return result if isinstance(result, type) and inspect.isabstract(result) else None


def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.init]


def _hint(name: str, known: Iterable[str], place: str = "") -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean {place + near[0]!r}?"
    return f" Known: {', '.join(names)}." if names else " There are none here."


__all__ = ["arguments", "merge", "overrides", "parse_yaml", "read_yaml", "resolve"]
