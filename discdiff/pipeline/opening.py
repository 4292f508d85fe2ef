"""From a place to what `Pipeline` is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from discdiff.errors import CheckpointError, DiscdiffError
from discdiff.manifest import CONFIG_FILE
from discdiff.pipeline.results import SamplingDefaults
from discdiff.release.hub import located
from discdiff.run_folder import Run, load_run


def opened(place: str | Path, revision: str | None = None) -> tuple[Run, SamplingDefaults]:
    """The run of a folder or of the Hugging Face Hub, and its defaults of sampling.

    Raises:
        CheckpointError: the folder is missing, damaged or of another version; or the Hub has no such model.
    """
    folder, source = located(place, revision)
    run = load_run(folder)
    try:
        defaults = SamplingDefaults.from_json(run.sampling)
    except DiscdiffError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: sampling: {error}") from error
    return replace(run, source=source or run.source), defaults


__all__ = ["opened"]
