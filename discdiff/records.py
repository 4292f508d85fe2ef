"""`Record`: one sequence as it stood in a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One sequence as it stood in a file.

    Attributes:
        sequence: the string.
        name: its name, or None.
        label: its class, or None.
        place: 1-based number of the record in the file.
    """

    sequence: str
    name: str | None = None
    label: str | None = None
    place: int | None = None

    @property
    def title(self) -> str:
        """Name, or place, for messages."""
        return self.name or str(self.place or "?")
