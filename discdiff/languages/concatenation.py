"""Languages one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from discdiff.languages.language import DEAD, Language, check_size, check_vocabularies


def concatenated(parts: Sequence[Language]) -> Language:
    """Sequences that are one of the first language, then one of the second, and so on.

    The subset construction over the states of all parts; where a part may end the next one may begin.

    Raises:
        IncompatibleError: no parts, different vocabularies, or too many states.
    """
    check_vocabularies(parts)
    joint, classes = np.unique(np.stack([part.classes for part in parts]), axis=1, return_inverse=True)
    offsets = np.cumsum([0] + [part.num_states for part in parts])
    begins = [0] * (len(parts) + 1)  # the states in which part k may begin, as bits; past the last: the end
    begins[-1] = end = 1 << int(offsets[-1])
    for k in reversed(range(len(parts))):
        begins[k] = (1 << int(offsets[k])) | (begins[k + 1] if parts[k].accepting[0] else 0)
    onward: list[list[int]] = []  # for each state of each part and class: the states that follow
    for k, part in enumerate(parts):
        arrives = [
            (1 << int(offsets[k] + s)) | (begins[k + 1] if part.accepting[s] else 0) for s in range(part.num_states)
        ]
        onward += [[0 if s == DEAD else arrives[s] for s in row] for row in part.table[:, joint[k]].tolist()]
    number, states, rows = {begins[0]: 0}, [begins[0]], []
    for state in states:  # grows as it goes
        following, left = [0] * joint.shape[1], state & ~end
        while left:
            lowest = left & -left
            following = [a | b for a, b in zip(following, onward[lowest.bit_length() - 1], strict=True)]
            left ^= lowest
        for reached in following:
            if reached and reached not in number:
                number[reached] = len(states)
                states.append(reached)
        rows.append([number[reached] if reached else DEAD for reached in following])
        check_size(len(states), joint.shape[1], "languages in turn")
    table = np.array(rows, dtype=np.int32).reshape(len(rows), -1)
    return Language.of(table, [bool(state & end) for state in states], classes.reshape(-1))


__all__ = ["concatenated"]
