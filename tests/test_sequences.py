"""Sequences: padding, rows, devices, concatenation; errors of the package."""

from __future__ import annotations

import pytest
import torch

from discdiff.errors import DataError, DiscdiffError, IncompatibleError, MissingDependencyError, TemplateError, require
from discdiff.sequences import Sequences

ROWS = [[3, 1, 2], [5], [4, 4]]


def batch() -> Sequences:
    return Sequences.from_lists(ROWS, labels=[1, -1, 0], ids=[10, 11, 12])


def test_lists_round_trip() -> None:
    sequences = batch()
    assert sequences.lists() == ROWS
    assert sequences.tokens.shape == (3, 3)
    assert sequences.tokens.dtype == torch.int64
    assert sequences.padding.tolist() == [[False] * 3, [False, True, True], [False, False, True]]
    assert (sequences.tokens[sequences.padding] == 0).all()
    assert len(sequences) == 3
    assert Sequences.from_lists([torch.tensor([1, 2])]).lists() == [[1, 2]]
    assert len(Sequences.from_lists([])) == 0


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True])])
def test_rows(rows: slice | torch.Tensor) -> None:
    part = batch()[rows]
    assert part.lists() == ROWS[1:]
    assert part.labels is not None
    assert part.ids is not None
    assert (part.labels.tolist(), part.ids.tolist()) == ([-1, 0], [11, 12])
    assert part.log_weights is None


def test_full_has_no_padding() -> None:
    sequences = Sequences.full(torch.zeros(2, 4, dtype=torch.int64))
    assert not sequences.padding.any()
    assert sequences.lengths.tolist() == [4, 4]


def test_concatenate_pads_to_the_widest() -> None:
    whole = Sequences.concatenate([batch(), Sequences.from_lists([[7] * 5], labels=[2], ids=[13])])
    assert whole.lists() == [*ROWS, [7] * 5]
    assert whole.tokens.shape == (4, 5)
    assert whole.labels is not None
    assert whole.labels.tolist() == [1, -1, 0, 2]
    with pytest.raises(DiscdiffError, match="labels is set in 1 of 2 batches"):
        Sequences.concatenate([batch(), Sequences.from_lists([[7]])])


def test_to_keeps_everything() -> None:
    moved = batch().to("cpu")
    assert moved.lists() == ROWS
    assert moved.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("tokens", "lengths", "message"),
    [
        (
            torch.zeros(3, dtype=torch.int64),
            torch.tensor([1]),
            r"tokens: got torch.int64 \[3\], expected int64 \[B, L\]",
        ),
        (torch.zeros(1, 3), torch.tensor([1]), "tokens: got torch.float32"),
        (torch.zeros(1, 3, dtype=torch.int64), torch.tensor([1, 2]), r"lengths: got \[2\], expected \[1\]"),
        (torch.zeros(1, 3, dtype=torch.int64), torch.tensor([4]), "lengths: got 4, expected at most 3"),
    ],
)
def test_impossible_batches(tokens: torch.Tensor, lengths: torch.Tensor, message: str) -> None:
    with pytest.raises(DiscdiffError, match=message):
        Sequences(tokens, lengths)


# ---- errors ---------------------------------------------------------------------------------------------------------
def test_incompatible_says_got_expected_and_remedy() -> None:
    error = IncompatibleError("Part", got=1, expected="two", remedy="Give two.")
    assert str(error) == "Part: got 1, expected two. Give two."
    assert isinstance(error, ValueError)


def test_data_error_says_where() -> None:
    error = DataError("bad letter", path="a.fa", record="seq1", line=3, column=7, remedy="remove it")
    assert str(error) == "a.fa, record seq1, line 3, column 7: bad letter (remove it)"
    assert str(DataError("bad letter")) == "bad letter"
    assert str(DataError("bad letter", line=2)) == "line 2: bad letter"


def test_template_error_points() -> None:
    error = TemplateError("no such code", template="ACXG", column=2, remedy="use N")
    assert str(error) == "no such code (use N)\n  ACXG\n    ^"
    assert "^" not in str(TemplateError("empty", template=""))


def test_require() -> None:
    assert require("json.decoder").__name__ == "json.decoder"
    with pytest.raises(MissingDependencyError, match=r"no_such_module is needed here.*pip install 'discdiff\[viz\]'"):
        require("no_such_module.part", "viz")
    with pytest.raises(ImportError, match="pip install 'discdiff'"):
        require("no_such_module")
