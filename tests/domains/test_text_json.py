"""JSON of a schema: what is accepted parses, validates and is spelled one way; what is valid is accepted."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import unicodedata
from typing import Any

import pytest

from discdiff.errors import DiscdiffError, IncompatibleError
from domains.text.json_schema import _ESCAPED
from tests.domains.test_text_rules import domain, language
from tests.languages.walks import accepted

PERSON = {
    "type": "object",
    "title": "A person",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "score": {"type": "number", "digits": 2, "decimals": 2},
        "tags": {"type": "array", "items": {"enum": ["a", "bé", None, 1.5]}, "minItems": 1, "maxItems": 3},
        "born": {"type": "string", "pattern": r"^\d{4}-\d\d$"},
        "home": {"type": "object", "properties": {"zip": {"const": "東京"}, "ok": {"type": ["boolean", "null"]}}},
    },
    "required": ["age", "tags"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {
    "person": PERSON,
    "strings": {"type": "array", "items": {"type": "string", "pattern": '["\\\\\n]|^x'}, "maxItems": 2},
    "union": {"anyOf": [{"type": "integer", "minimum": -12, "maximum": -3}, {"type": "null"}, {"const": {"a": [1]}}]},
    "matrix": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
        "minItems": 0,
        "maxItems": 3,
    },
    "empty": {"type": "object", "properties": {}},
}


def valid(value: Any, schema: Any) -> bool:
    """A validator of the subset, written from the specification of JSON Schema."""
    if "const" in schema:
        return bool(json.dumps(value) == json.dumps(schema["const"]))
    if "enum" in schema:
        return any(json.dumps(value) == json.dumps(each) for each in schema["enum"])
    if "anyOf" in schema:
        return any(valid(value, each) for each in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(_of_kind(value, kind, schema) for kind in kinds)


def _of_kind(value: Any, kind: str, schema: Any) -> bool:
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        right = isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
        return right and schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
    if kind == "string":
        return (
            isinstance(value, str)
            and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
            and re.search(schema.get("pattern", ""), value) is not None
        )
    if kind == "array":
        sized = isinstance(value, list) and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
        return sized and all(valid(each, schema["items"]) for each in value)
    assert kind == "object", kind
    properties = schema["properties"]
    return (
        isinstance(value, dict)
        and set(schema.get("required", ())) <= set(value) <= set(properties)
        and all(valid(each, properties[name]) for name, each in value.items())
    )


def made(schema: Any, draw: random.Random) -> Any:
    """A valid value at random, with properties in the order of the schema."""
    if "const" in schema or "enum" in schema:
        return draw.choice(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return made(draw.choice(schema["anyOf"]), draw)
    kind = draw.choice(schema["type"]) if isinstance(schema["type"], list) else schema["type"]
    if kind in ("null", "boolean"):
        return None if kind == "null" else draw.random() < 0.5
    if kind == "integer":
        return draw.randint(schema.get("minimum", -99), schema.get("maximum", 99))
    if kind == "number":
        return draw.choice([0, -0.5, 7, 99.25, 0.01, -12])
    if kind == "string":
        letters = 'ab "\\\n\té東🙂x/1'
        words = ("".join(draw.choices(letters, k=draw.randrange(7))) for _ in iter(int, 1))
        return "2024-05" if r"\d" in schema.get("pattern", "") else next(w for w in words if valid(w, schema))
    if kind == "array":
        count = draw.randint(schema.get("minItems", 0), schema.get("maxItems", 3))
        return [made(schema["items"], draw) for _ in range(count)]
    needed = schema.get("required", ())
    return {n: made(each, draw) for n, each in schema["properties"].items() if n in needed or draw.random() < 0.5}


def json_faults(name: str) -> list[str]:
    """Texts that a schema's language accepts and should not, or the other way round."""
    schema, bpe = SCHEMAS[name], domain("bpe")
    found = language("bpe", "json", json.dumps(schema))
    draw, wrong = random.Random(6), []
    for _ in range(250):
        text = bpe.decode(accepted(found, draw, longest=draw.randrange(1, 60)))
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            wrong.append(text)
            continue
        # numbers keep their own spelling: 1.50
        same = text == json.dumps(value, ensure_ascii=False) or re.search(r"\.\d*0\b|-0\b", text)
        if not valid(value, schema) or not same:
            wrong.append(text)
    for _ in range(250):
        value = made(schema, draw)
        text = json.dumps(value, ensure_ascii=False)
        if not found.accepts(bpe.encode(text)):
            wrong.append(text)
        at = draw.randrange(len(text))
        broken = text[:at] + draw.choice(["", "1", '"', ",", " ", "}"]) + text[at + 1 :]
        try:
            fine = valid(json.loads(broken), schema) and broken == json.dumps(json.loads(broken), ensure_ascii=False)
        except json.JSONDecodeError:
            fine = False
        if found.accepts(bpe.encode(broken)) and not fine:
            wrong.append(broken)
    return wrong


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_json(name: str) -> None:
    """500 accepted texts parse, validate and are spelled as `json.dumps` does; valid values are accepted."""
    assert json_faults(name) == []


def test_optional_properties() -> None:
    """Every subset of properties, in order: accepted just where what is required is there."""
    for required in itertools.chain.from_iterable(itertools.combinations("abcd", n) for n in range(3)):
        schema = {"properties": {c: {"const": 1} for c in "abcd"}, "required": list(required)}
        found = language("bpe", "json", json.dumps(schema))
        for chosen in itertools.chain.from_iterable(itertools.combinations("abcd", n) for n in range(5)):
            text = json.dumps(dict.fromkeys(chosen, 1))
            assert found.accepts(domain("bpe").encode(text)) == (set(required) <= set(chosen))


def integer_faults() -> list[tuple[int, int, int]]:
    """Ranges whose numbers are not just those between their ends."""
    wrong = []
    bounds = [-1234, -1000, -999, -101, -100, -10, -9, -1, 0, 1, 7, 10, 19, 20, 99, 100, 123, 129, 130, 999, 1000, 1301]
    for low, high in itertools.combinations_with_replacement(bounds, 2):
        if (low + high) % 7:
            continue
        text = json.dumps({"type": "integer", "minimum": low, "maximum": high})
        found = language("bpe", "json", text)
        wrong += [
            (low, high, number)
            for number in {b + d for b in (*bounds, low, high) for d in (-1, 0, 1)}
            if found.accepts(domain("bpe").encode(str(number))) != (low <= number <= high)
        ]
        assert not any(found.accepts(domain("bpe").encode(text)) for text in ("-0", "00", "01", "+1", "1.0", ""))
    return wrong


def test_whole_numbers_in_a_range() -> None:
    assert integer_faults() == []


@pytest.mark.parametrize(
    ("schema", "key", "part"),
    [
        ({"type": "integer", "multipleOf": 3}, "multipleOf", "keys that a regular language can hold here"),
        ({"properties": {"a": {"type": "array", "items": {"type": "text"}}}}, "a.items.type", '"text"'),
        ({"type": "array"}, "items", "what it holds"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "uniqueItems", "true"),
        ({"$ref": "#/x"}, "type", "null"),
        ({"type": "string", "format": "date"}, "format", "Leave it out"),
        ({"type": "string", "minLength": 4, "maxLength": 2}, "maxLength", "at least minLength, 4"),
        ({"type": "string", "pattern": "a[b"}, "pattern", "'[' is never closed"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "maxLength", "Write the length into the pattern"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "maximum", "at least the minimum, 5"),
        ({"type": "integer", "minimum": 0.5}, "minimum", "a whole number"),
        ({"type": "number", "minimum": 0}, "minimum", "Leave it out"),
        ({"type": "object", "properties": {}, "required": ["b"]}, "required", '"b"'),
        (
            {"properties": {"a": {"const": 1}}, "additionalProperties": {"type": "null"}},
            "additionalProperties",
            "schema",
        ),
        ({"enum": []}, "enum", "a list of at least one"),
        ({"enum": [1], "minimum": 3}, "minimum", "Leave it out"),
        ([1], "schema", "[1]"),
    ],
)
def test_schemas_that_are_refused(schema: Any, key: str, part: str) -> None:
    with pytest.raises(IncompatibleError) as caught:
        language("bpe", "json", json.dumps(schema))
    assert str(caught.value).startswith(f"json: {key}: got ")
    assert part in str(caught.value)


def test_control_characters_have_no_long_escape() -> None:
    """What needs `\\u` is left out of strings; all that has a short escape is in."""
    found = language("bpe", "json", '{"type": "string"}')
    for character in [*map(chr, range(0x80)), "é", "\u2028", "🙂"]:
        text = json.dumps(character, ensure_ascii=False)
        short = unicodedata.category(character) != "Cc" or character in _ESCAPED or character == "\x7f"
        assert found.accepts(domain("bpe").encode(text)) == short
    with pytest.raises(DiscdiffError):
        language("bpe", "json", '{"type": "string", "maxLength": -1}')
