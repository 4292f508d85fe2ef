"""Reading users' files: text, plain or compressed, and tables."""

from __future__ import annotations

from discdiff.data.streams import TextError, check_file, open_text, plain_suffix
from discdiff.data.tables import accepted_values, read_table

__all__ = ["TextError", "accepted_values", "check_file", "open_text", "plain_suffix", "read_table"]
