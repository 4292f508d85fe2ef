"""Run folders changed on purpose, with checksums put right again, so that the next check is the one that answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def seal(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that ends in the digest of what stands before it."""
    body = {key: value for key, value in content.items() if key != "digest"}
    before = json.dumps(body, indent=2)[:-2] + ',\n  "digest": "'
    path.write_bytes(f'{before}{hashlib.sha256(before.encode()).hexdigest()}"\n}}\n'.encode())


def edit(run: Path, **changes: Any) -> None:
    """Change keys of `config.json` (`...` takes one out)."""
    saved = json.loads((run / "config.json").read_text())
    seal(run / "config.json", {key: value for key, value in {**saved, **changes}.items() if value is not ...})


def change(run: Path, at: str, value: Any) -> None:
    """Set one value of `config.json`, at a dotted place; `...` takes it out."""
    saved = json.loads((run / "config.json").read_text())
    *path, last = at.split(".")
    group = saved
    for key in path:
        group = group[key]
    if value is ...:
        del group[last]
    else:
        group[last] = value
    seal(run / "config.json", saved)


def vouch(run: Path) -> None:
    """Make the table of checksums fit the files that are there."""
    saved = json.loads((run / "config.json").read_text())
    sums = {file: hashlib.sha256((run / file).read_bytes()).hexdigest() for file in saved["sha256"]}
    edit(run, sha256=sums)


def with_weights(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors of a run folder."""
    from safetensors.torch import load_file, save_file

    weights = load_file(run / "model.safetensors")
    change(weights)
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})
    vouch(run)
