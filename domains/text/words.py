"""Texts whose words are all in a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from discdiff.errors import IncompatibleError, TemplateError
from discdiff.languages import DEAD, Language, check_size
from domains.text.patterns import over_tokens, read_file
from domains.text.tokenizers import Tokenizer


def words_language(tokenizer: Tokenizer, value: str) -> Language:
    r"""Texts in which every word is one of a list: words with commas between them, or `@file` with a word a line.

    A word is a run of letters, digits and underscores (`\w`), and of the other characters that words of the list have
    (`don't`, `well-known`); what stands between words is free. After `/i` at the end case does not matter.

    Raises:
        IncompatibleError: no words, a file that cannot be read, or too many words.
        TemplateError: a word with a space, or with a character that the model does not know.
    """
    any_case = value.endswith("/i")
    listed = value.removesuffix("/i")
    if listed.startswith("@"):
        found = read_file(listed[1:], "words").splitlines()
    else:
        found = listed.split(",")
    words = list(dict.fromkeys(word.strip() for word in found if word.strip()))
    if not words:
        raise IncompatibleError("words", got=repr(value), expected="words", remedy="Such as the,cat,sat or @words.txt.")
    for word in words:
        if any(c.isspace() for c in word):
            at = next(i for i, c in enumerate(word) if c.isspace())
            raise TemplateError("a word with a space", template=word, column=at, remedy="list its parts")
    literals = {
        variant for word in words for c in word for variant in ((c, c.lower(), c.upper()) if any_case else (c,))
    }
    single = [c for c in literals if len(c) == 1]
    return over_tokens(tokenizer, single, lambda alphabet: _words(alphabet, words, any_case))


def _words(alphabet: Sequence[str], words: Collection[str], any_case: bool) -> Language:
    def shape(character: str) -> str:
        low = character.lower()
        return low if any_case and len(low) == 1 else character

    shapes = {shape(c): k for k, c in enumerate(sorted({shape(c) for word in words for c in word}))}
    between, other = len(shapes), len(shapes) + 1
    classes = [
        shapes.get(shape(c), other if c.isalnum() or c == "_" else between) for c in alphabet
    ]  # an unlisted letter makes a word that is not listed
    rows: list[dict[int, int]] = [{}]
    ends = {0}
    known = set(map(shape, alphabet))
    for word in words:
        node = 0
        for column, character in enumerate(word):
            if shape(character) not in known:
                raise TemplateError(
                    f"{character!r} is not among the {len(alphabet)} characters that the model knows", template=word,
                    column=column, remedy="leave the word out",
                )  # fmt: skip
            letter = shapes[shape(character)]
            if letter not in rows[node]:
                rows[node][letter] = len(rows)
                rows.append({})
            node = rows[node][letter]
        ends.add(node)
    check_size(len(rows), len(shapes) + 2, "words")
    table = np.full((len(rows), len(shapes) + 2), DEAD, dtype=np.int32)
    for node, following in enumerate(rows):
        table[node, list(following)] = list(following.values())
    finished = sorted(ends)
    table[finished, between] = 0
    accepting = np.zeros(len(rows), dtype=np.bool_)
    accepting[finished] = True
    return Language.of(table, accepting, classes)


__all__ = ["words_language"]
