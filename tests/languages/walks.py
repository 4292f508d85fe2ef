"""Sequences of a language, at random."""

from __future__ import annotations

import random

import numpy as np

from discdiff.languages import Language
from discdiff.languages.language import DEAD
from discdiff.languages.minimal import distance_to_end


def accepted(language: Language, draw: random.Random, *, longest: int) -> list[int]:
    """A sequence that is accepted: any token that leads on, until `longest`, then the shortest way out."""
    away = distance_to_end(language.table, language.accepting)
    members = [np.nonzero(language.classes == c)[0] for c in range(language.num_classes)]
    state = 0
    found: list[int] = []
    while True:
        if language.accepting[state] and (len(found) >= longest or draw.random() < 0.1):
            return found
        row = language.table[state]
        ways = [c for c in range(language.num_classes) if row[c] != DEAD and len(members[c])]
        if not ways:
            return found
        if len(found) >= longest:
            ways = [c for c in ways if away[row[c]] < away[state]]
        chosen = draw.choice(ways)
        found.append(int(draw.choice(members[chosen])))
        state = int(row[chosen])
