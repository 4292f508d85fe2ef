"""What a run shows of its model while it trains: the bound on held-out sequences, and samples."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discdiff.data.base import Dataset
from discdiff.data.order import shuffled
from discdiff.errors import DiscdiffError
from discdiff.likelihood import nelbo
from discdiff.model import Diffusion
from discdiff.processes.absorbing import Absorbing
from discdiff.randomness import Keys
from discdiff.samplers.base import Sampler
from discdiff.samplers.profile import Profile
from discdiff.samplers.profiling import FEWEST, measure_profile
from discdiff.sampling import sample
from discdiff.training.result import Validation
from discdiff.training.topology import Peers
from discdiff.writing import write_whole

SAMPLES_FILE = "samples.txt"
_SEED = 0x76A11D  # of the bounds' noise: not one that a user would give a run, whose training noise it would repeat


class Validator:
    """The bound on at most `limit` held-out sequences, the same ones with the same noise each time.

    Args:
        dataset: held-out sequences.
        limit: how many to use; they are chosen by a hash of their place.
        batch_size: rows evaluated at once.
        samples: noise levels per sequence.
        peers: the processes that share the sequences among them; each must call.
    """

    def __init__(
        self, dataset: Dataset, *, limit: int | None, batch_size: int, samples: int, peers: Peers | None = None
    ) -> None:
        order = shuffled(len(dataset), 0, step=0, purpose="validation")
        self.sequences = dataset.batch(np.sort(order[:limit]))
        self.batch_size, self.samples = batch_size, samples
        self.peers = peers or Peers()

    def __call__(self, model: Diffusion, step: int, on_batch: Callable[[int, int], None]) -> Validation:
        """The bound of a model in eval mode."""
        mine, sums = self.sequences[self.peers.rank :: self.peers.size], [0.0, 0.0, 0.0]
        if len(mine):
            assert mine.ids is not None, "rows of a data set have ids"
            bound = nelbo(
                model,
                mine,
                generator=Keys(_SEED, mine.ids),
                samples=self.samples,
                batch_size=self.batch_size,
                on_batch=on_batch,
            )
            sums = [float(part.sum()) for part in (bound.total, bound.standard_errors.square(), bound.tokens)]
        nats, squares, tokens = self.peers.tell(sums).sum(0).tolist()
        per_token = nats / tokens
        return Validation(per_token, per_token / math.log(2), math.sqrt(squares) / tokens, len(self.sequences), step)


def profile_of(model: Diffusion, dataset: Dataset, *, limit: int, batch_size: int) -> Profile | None:
    """The profile of a model in eval mode on at most `limit` held-out sequences; None where it has none.

    Args:
        model: any; only on the absorbing process, and of a network that sees the whole row, there is one.
        dataset: held-out sequences.
        limit: how many to use, chosen by a hash of their place.
        batch_size: rows evaluated at once.
    """
    sequences = Validator(dataset, limit=limit, batch_size=batch_size, samples=1).sequences
    measurable = isinstance(model.process, Absorbing) and model.block_size is None
    if not measurable or int((sequences.lengths > 1).sum()) < FEWEST:
        return None
    assert sequences.ids is not None, "rows of a data set have ids"
    keys = Keys(_SEED, sequences.ids.to(model.device))
    return measure_profile(model, sequences=sequences, generator=keys, batch_size=batch_size)


class Sampling:
    """A few samples of the model as it stands: as strings, into `samples.txt`, and as the domain's pictures.

    Args:
        train: gives the lengths, the classes and the domain.
        count: how many.
        sampler, steps: how to sample; the defaults of `discdiff.sample` where they are None.
        seed: of the samples, the same at each call, so that one sees the same draws become better.
        folder: the run folder, or None.
    """

    def __init__(
        self,
        train: Dataset,
        *,
        count: int,
        sampler: Sampler | None,
        steps: int | None,
        seed: int,
        folder: Path | None,
    ) -> None:
        self.train, self.count, self.sampler, self.steps, self.seed = train, count, sampler, steps, seed
        self.folder = folder
        self.keys = Keys(seed, torch.arange(count))
        self.lengths = train.length_model.sample(count, self.keys)
        self.trouble: str | None = None
        self.picture_seconds = 0.0

    def __call__(self, model: Diffusion, step: int, on_step: Callable[..., None]) -> list[str]:
        """Strings drawn from a model in eval mode."""
        drawn = sample(
            model,
            self.count,
            lengths=self.lengths,
            sampler=self.sampler,
            steps=self.steps,
            labels=self._labels(),
            generator=self.keys,
            on_step=on_step,
        )
        texts = self.train.decode(drawn)
        if self.folder is not None:
            try:
                with (self.folder / SAMPLES_FILE).open("a", encoding="utf-8") as stream:
                    stream.write("".join([f"step {step}\n", *(f"  {text!r}\n" for text in texts), "\n"]))
            except OSError as error:  # no reason to end a run of days either
                self.trouble = f"no {SAMPLES_FILE}: {error.strerror}"
        return texts

    def forget_after(self, step: int) -> None:
        """Drop samples of later steps: the run that drew them was cut short, and draws them again."""
        path = None if self.folder is None else self.folder / SAMPLES_FILE
        if path is None or not path.is_file():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        later = (match.start() for match in re.finditer(r"^step (\d+)$", text, re.MULTILINE) if int(match[1]) > step)
        kept = text[: next(later, len(text))]
        if kept != text:
            write_whole(path, kept)

    def _labels(self) -> Tensor | None:
        """The classes in turn."""
        names = self.train.label_names
        return None if names is None else torch.arange(self.count) % len(names)

    def pictures(self, texts: list[str], step: int, *, seconds: float) -> dict[str, Path]:
        """The domain's pictures of some samples, `pictures/step_…` in the run folder.

        None after one has failed, and none while pictures have taken more than a fiftieth of `seconds`.
        """
        domain = self.train.domain
        if self.folder is None or domain is None or self.trouble or self.picture_seconds > seconds / 50:
            return {}
        start = time.monotonic()
        folder = self.folder / "pictures" / f"step_{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            drawn = dict(domain.plots(folder, texts))
        except (DiscdiffError, ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            # A picture is no reason to end a run of days.
            self.trouble = f"no pictures: {type(error).__name__}: {error}"
            drawn = {}
        self.picture_seconds += time.monotonic() - start
        with suppress(OSError):  # not empty
            folder.rmdir()
            folder.parent.rmdir()
        return drawn
