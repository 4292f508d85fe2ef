"""Reading users' files: text, plain or compressed, tables, and data sets of the Hugging Face hub."""

from __future__ import annotations

from discdiff.data.faults import Faults
from discdiff.data.paths import check_file, is_hub, plain_suffix, tell
from discdiff.data.streams import TextError, open_text, unpacked
from discdiff.data.tables import accepted_values, is_table, read_table

__all__ = [
    "Faults",
    "TextError",
    "accepted_values",
    "check_file",
    "is_hub",
    "is_table",
    "open_text",
    "plain_suffix",
    "read_table",
    "tell",
    "unpacked",
]
