"""Text that comes with Python: a corpus without a download."""

from __future__ import annotations

from discdiff.errors import require


def shipped_text() -> str:
    """The reference manual's topics that `help()` shows, in alphabetical order: about half a million characters.

    Source: CPython's `pydoc_data.topics`, under the PSF licence. It differs a little from one Python to the next.
    """
    topics: dict[str, str] = require("pydoc_data.topics").topics
    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"
