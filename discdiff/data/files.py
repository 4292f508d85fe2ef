"""Reading users' files: text, plain or compressed, and tables."""

from __future__ import annotations

from discdiff.data.streams import TextError, check_file, open_text, plain_suffix
from discdiff.data.tables import read_table

__all__ = ["TextError", "check_file", "open_text", "plain_suffix", "read_table"]
