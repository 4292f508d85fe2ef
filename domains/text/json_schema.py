"""JSON of a schema, as an expression over characters: the part of JSON Schema that is regular."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from discdiff.errors import DiscdiffError, IncompatibleError, TemplateError
from discdiff.languages import (
    EMPTY,
    Choice,
    Expression,
    Language,
    Repeat,
    Sequential,
    Symbols,
    compile_expression,
    one_of,
    word,
)
from domains.text.numbers import integers
from domains.text.patterns import over_tokens, read_file, searched
from domains.text.tokenizers import Tokenizer

_ESCAPED = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_NEEDED = '{}[]:, "\\-.0123456789bfnrt' + "truefalsenull" + "".join(map(chr, range(32)))
_NOTES = {"title", "description", "$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly"}
_KEYS: Mapping[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"pattern", "minLength", "maxLength"},
    "integer": {"minimum", "maximum", "digits"},
    "number": {"digits", "decimals"},
    "boolean": set(),
    "null": set(),
}
DIGITS, DECIMALS, DEPTH = 10, 6, 32


def schema_language(tokenizer: Tokenizer, value: str) -> Language:
    """The texts that are JSON of a schema, written as `json.dumps` writes it: one space after each comma and colon.

    - object: `properties` in the order of the schema; those in `required` always, the others or not; no others.
    - array: `items`, `minItems`, `maxItems`.
    - string: `pattern` (found anywhere unless it has `^` and `$`, as JSON Schema says), or `minLength`, `maxLength`.
    - integer: `minimum`, `maximum`; number: up to 6 `decimals`, no exponent. Both have up to 10 `digits` before the
      point, where nothing else bounds them; `digits` and `decimals` are keys of ours.
    - boolean, null, `enum`, `const`, `anyOf`, and lists of types.

    Every text is accepted by the schema, not the other way round: JSON has more ways to write the same.

    Args:
        tokenizer: of the model.
        value: the schema, or `@file`.

    Raises:
        TemplateError: no JSON, with a caret under the fault.
        IncompatibleError: names the key that no regular language can hold, or that is not known.
    """
    text = (read_file(value[1:], "json") if value.startswith("@") else value).rstrip()
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        shown = text.split("\n")[error.lineno - 1]  # the lines that the parser counts
        raise TemplateError(f"the schema is no JSON: {error.msg}", template=shown, column=error.colno - 1) from error

    def build(alphabet: Sequence[str]) -> Language:
        return compile_expression(_Writer(alphabet).any(schema, "", 0), len(alphabet), what="json")

    return over_tokens(tokenizer, _NEEDED + json.dumps(schema, ensure_ascii=False) + _strings(schema), build)


def _strings(value: Any) -> str:
    """All characters of all strings in it."""
    if isinstance(value, Mapping):
        return "".join(key + _strings(inner) for key, inner in value.items())
    if isinstance(value, list):
        return "".join(map(_strings, value))
    return value if isinstance(value, str) else ""


def refused(path: str, key: str, got: object, expected: str, remedy: str) -> IncompatibleError:
    """The error about one key of a schema."""
    return IncompatibleError(f"json: {f'{path}.' if path else ''}{key}", got=got, expected=expected, remedy=remedy)


class _Writer:
    def __init__(self, alphabet: Sequence[str]) -> None:
        self.alphabet = alphabet
        self.place = {character: token for token, character in enumerate(alphabet)}

    def text(self, text: str) -> Expression:
        for column, character in enumerate(text):
            if character not in self.place:
                raise TemplateError(
                    f"{character!r} is not among the {len(self.alphabet)} characters that the model knows",
                    template=text, column=column, remedy="JSON needs it",
                )  # fmt: skip
        return word(self.place[character] for character in text)

    def value(self, value: Any) -> Expression:
        return self.text(json.dumps(value, ensure_ascii=False))

    def any(self, schema: Any, path: str, depth: int) -> Expression:
        if depth > DEPTH:
            raise refused(path, "type", "more than 32 levels", "at most 32 levels", "Nest less deeply.")
        if not isinstance(schema, Mapping):
            raise refused(path, "schema", json.dumps(schema), "an object", 'Such as {"type": "string"}.')
        for key in ("const", "enum", "anyOf"):
            if key in schema:
                self._only(schema, path, {key} if key == "anyOf" else {key, "type"})
        if "const" in schema:
            return self.value(schema["const"])
        if "enum" in schema:
            return Choice(tuple(self.value(each) for each in self._list(schema, "enum", path)))
        if "anyOf" in schema:
            options = self._list(schema, "anyOf", path)
            return Choice(
                tuple(self.any(each, f"{path}.anyOf[{k}]".lstrip("."), depth + 1) for k, each in enumerate(options))
            )
        kinds = schema.get("type", "object" if "properties" in schema else None)
        kinds = kinds if isinstance(kinds, list) else [kinds]
        for kind in kinds:
            if kind not in _KEYS:
                expected = f"one of {', '.join(_KEYS)}"
                raise refused(path, "type", json.dumps(kind), expected, "Say what the value is, or use enum or const.")
        self._only(schema, path, {"type"}.union(*(_KEYS[kind] for kind in kinds)))
        writers: dict[str, Callable[[Mapping[str, Any], str, int], Expression]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda *_: Choice((self.text("true"), self.text("false"))),
            "null": lambda *_: self.text("null"),
        }
        return Choice(tuple(writers[kind](schema, path, depth) for kind in kinds))

    def _only(self, schema: Mapping[str, Any], path: str, known: set[str]) -> None:
        for key in schema:
            if key not in known | _NOTES:
                raise refused(
                    path, key, json.dumps(schema[key], ensure_ascii=False)[:60],
                    f"keys that a regular language can hold here: {', '.join(sorted(known))}", "Leave it out.",
                )  # fmt: skip

    def _list(self, schema: Mapping[str, Any], key: str, path: str) -> list[Any]:
        if not isinstance(schema[key], list) or not schema[key]:
            raise refused(path, key, json.dumps(schema[key]), "a list of at least one", "Name the values.")
        return list(schema[key])

    def _count(self, schema: Mapping[str, Any], key: str, path: str, default: int | None) -> int | None:
        number = schema.get(key, default)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise refused(path, key, json.dumps(number), "a number from 0 on", "Correct it.")
        return number

    def _range(self, schema: Mapping[str, Any], low_key: str, high_key: str, path: str) -> tuple[int, int | None]:
        low, high = self._count(schema, low_key, path, 0), self._count(schema, high_key, path, None)
        assert low is not None
        if high is not None and high < low:
            raise refused(path, high_key, high, f"at least {low_key}, {low}", "Swap the numbers.")
        return low, high

    # ---- types ------------------------------------------------------------------------------------------------------
    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> Expression:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping):
            raise refused(path, "properties", json.dumps(properties), "an object of schemas", "Name the properties.")
        if not isinstance(required, list) or (unknown := [name for name in required if name not in properties]):
            got = unknown[0] if isinstance(required, list) else required
            raise refused(path, "required", json.dumps(got), "a list of names in properties", "Describe it there.")
        if not isinstance(schema.get("additionalProperties", False), bool):
            raise refused(path, "additionalProperties", "a schema", "false", "Name all properties.")
        names = list(properties)
        pairs = [
            self.value(name) + self.text(": ") + self.any(properties[name], f"{path}.{name}".lstrip("."), depth + 1)
            for name in names
        ]
        return Sequential((self.text("{"), self._members(names, pairs, set(required)), self.text("}")))

    def _members(self, names: list[str], pairs: list[Expression], required: set[str]) -> Expression:
        """One alternative for each property that may come first; the others follow with a comma each."""
        options: list[Expression] = []
        for first, name in enumerate(names):
            later = [
                Repeat(self.text(", ") + pair, int(names[k] in required), 1)
                for k, pair in enumerate(pairs[first + 1 :], first + 1)
            ]
            options.append(Sequential((pairs[first], *later)))
            if name in required:
                return Choice(tuple(options))
        return Choice((*options, EMPTY))

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> Expression:
        if "items" not in schema:
            raise refused(path, "items", "nothing", "the schema of what the array holds", "Say what it holds.")
        low, high = self._range(schema, "minItems", "maxItems", path)
        item = self.any(schema["items"], f"{path}.items".lstrip("."), depth + 1)
        following = Repeat(self.text(", ") + item, max(low - 1, 0), None if high is None else max(high - 1, 0))
        inside: Expression = EMPTY if high == 0 else item + following
        return Sequential((self.text("["), inside if low else Choice((inside, EMPTY)), self.text("]")))

    def _string(self, schema: Mapping[str, Any], path: str, depth: int) -> Expression:
        low, high = self._range(schema, "minLength", "maxLength", path)
        anything = self._encoded(one_of(range(len(self.alphabet))), path)
        if "pattern" not in schema:
            return Sequential((self.text('"'), Repeat(anything, low, high), self.text('"')))
        if "maxLength" in schema or "minLength" in schema:
            raise refused(path, "maxLength", "a pattern too", "one of the two", "Write the length into the pattern.")
        pattern = schema["pattern"]
        if not isinstance(pattern, str):
            raise refused(path, "pattern", json.dumps(pattern), "a regular expression", "Write it as a string.")
        free = Repeat(anything, 0, None)
        try:
            inside = searched(pattern, self.alphabet, free, lambda part: self._encoded(part, path))
        except DiscdiffError as error:
            raise refused(path, "pattern", str(error), "a regular expression", "Correct it.") from error
        return Sequential((self.text('"'), inside, self.text('"')))

    def _encoded(self, expression: Expression, path: str) -> Expression:
        """What characters are within quotes; control characters without a short escape are left out."""
        if isinstance(expression, Sequential):
            return Sequential(tuple(self._encoded(part, path) for part in expression.parts))
        if isinstance(expression, Choice):
            return Choice(tuple(self._encoded(part, path) for part in expression.parts))
        if isinstance(expression, Repeat):
            return Repeat(self._encoded(expression.part, path), expression.low, expression.high)
        assert isinstance(expression, Symbols), expression
        special = [self.alphabet[token] for token in expression.tokens if self.alphabet[token] in _ESCAPED]
        plain = {t for t in expression.tokens if self.alphabet[t] not in _ESCAPED and self.alphabet[t] >= " "}
        letters = [_ESCAPED[character] for character in special]
        options: list[Expression] = [one_of(plain)] if plain else []
        if letters:
            options.append(self.text("\\") + Choice(tuple(map(self.text, letters))))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _integer(self, schema: Mapping[str, Any], path: str, depth: int) -> Expression:
        digits = self._digits(schema, "digits", path, DIGITS)
        low, high = schema.get("minimum", 1 - 10**digits), schema.get("maximum", 10**digits - 1)
        for key, number in (("minimum", low), ("maximum", high)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise refused(path, key, json.dumps(number), "a whole number", "Round it.")
        if high < low:
            raise refused(path, "maximum", high, f"at least the minimum, {low}", "Swap the numbers.")
        return integers(low, high, self.text)

    def _number(self, schema: Mapping[str, Any], path: str, depth: int) -> Expression:
        digits = self._digits(schema, "digits", path, DIGITS)
        decimals = self._digits(schema, "decimals", path, DECIMALS)
        digit = Choice(tuple(map(self.text, "0123456789")))
        fraction = Repeat(self.text(".") + digit + Repeat(digit, 0, decimals - 1), 0, 1)
        return Repeat(self.text("-"), 0, 1) + integers(0, 10**digits - 1, self.text) + fraction

    def _digits(self, schema: Mapping[str, Any], key: str, path: str, default: int) -> int:
        number = self._count(schema, key, path, default)
        if not number or number > 30:
            raise refused(path, key, number, "1 to 30", "Correct it.")
        return number


__all__ = ["schema_language"]
