"""What the tests of sequence files share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from discdiff.errors import DataError
from domains.dna import DNA
from domains.letters import Letters


def put(folder: Path, content: str | bytes, name: str = "reads.fa") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, domain: Letters | None = None, **options: Any) -> list[tuple[str | None, str]]:
    return [(record.name, record.sequence) for record in (domain or DNA()).read(path, **options)]


def fault(path: Path, domain: Letters | None = None, **options: Any) -> DataError:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError) as caught:
            read(path, domain, **options)
    assert str(path) in str(caught.value)
    return caught.value
