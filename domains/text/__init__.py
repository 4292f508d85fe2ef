"""Plain text."""

from __future__ import annotations

from domains.text.domain import Text
from domains.text.shipped import shipped_text

__all__ = ["Text", "shipped_text"]
