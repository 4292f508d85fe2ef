"""What an automaton costs, beside a step that evaluates the head at every masked position.

    python -m benchmarks.automata                    # 1,000 states at 16 and 64 classes; a regex over 50,258 tokens
    python -m benchmarks.automata --only classes16

A step predicts from a batch of masked sequences and draws all their tokens, without a constraint and with one, the two
taking turns, so that what else the machine does falls on both. Prints one JSON line a setting: seconds (median, least,
greatest), the share that the automaton adds (median over turns, with quartiles), also to a step that only reads the
probabilities, in cheaper pieces, and draws nothing; what the weights of particles add, which need a second filter pass;
and the parts of the constrained step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.constraints import Automaton, Constraint
from discdiff.constraints.base import Unconstrained
from discdiff.constraints.weighed import Weighed
from discdiff.languages import Language, compile_expression, regex
from discdiff.languages.utf8 import Atoms
from discdiff.prediction import Prediction, positions_of

LENGTH, BATCH = 128, 16
PATTERN = r"([A-Z][a-z]{0,12}(,? [a-z]{1,12}){2,11}[.!?] ?)+"


def random_automaton(states: int, classes: int, vocab_size: int) -> Language:
    """Every state leads on by every class, to states at random; half of them may end a sequence."""
    draw = np.random.default_rng(0)
    table = draw.integers(0, states, size=(states, classes))
    found = Language.of(table, draw.random(states) < 0.5, np.arange(vocab_size) % classes)
    assert found.num_classes == classes
    return found


def byte_tokens(vocab_size: int) -> list[bytes]:
    """Words of a byte-level vocabulary: all bytes, then pieces of English text, long and short."""
    from domains.text import shipped_text

    draw, text = np.random.default_rng(0), shipped_text().encode()
    words = dict.fromkeys(bytes([byte]) for byte in range(256))
    while len(words) < vocab_size:
        at, size = int(draw.integers(len(text))), 2 + int(draw.geometric(0.2))
        words[text[at : at + size]] = None
    return list(words)


def text_automaton(vocab_size: int) -> Language:
    """A regular expression of sentences, over byte-level tokens."""
    atoms = Atoms.of(PATTERN)
    characters = compile_expression(regex(PATTERN, atoms.alphabet), len(atoms.alphabet))
    return atoms.over_bytes(characters).along(byte_tokens(vocab_size))


SETTINGS: dict[str, tuple[int, Callable[[], Language]]] = {
    "classes16": (64, lambda: random_automaton(1000, 16, 64)),
    "classes64": (64, lambda: random_automaton(1000, 64, 64)),
    "text": (50_258, lambda: text_automaton(50_258)),
}


def model_of(vocab_size: int) -> dd.Diffusion:
    """Six layers, 256 wide, with a head that is not flat."""
    process = dd.Absorbing(vocab_size)
    network = dd.Transformer(process.num_states, dim=256, depth=6, heads=4)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
    return model


def prediction_of(model: dd.Diffusion) -> Prediction:
    """All masked, in the middle of the noise."""
    tokens = torch.full((BATCH, LENGTH), model.process.num_states - 1)
    return model.predict(tokens, torch.ones(BATCH, 1))


def step(model: dd.Diffusion, constraint: Constraint, u: Tensor) -> Tensor:
    """One prediction, and a draw of every token."""
    prediction = prediction_of(model)
    return constraint.draw(prediction, positions_of(prediction.process.active(prediction.tokens)), u)


def weighed_step(model: dd.Diffusion, constraint: Automaton, u: Tensor) -> Tensor:
    """As `step`, and the weights of particles, half of the tokens being revealed: a second filter pass."""
    weighed, prediction = Weighed(constraint), prediction_of(model)
    everywhere = positions_of(prediction.process.active(prediction.tokens))
    x0 = weighed.draw(prediction, everywhere, u).reshape(BATCH, LENGTH)
    weighed.settle(prediction, torch.where(u < 0.5, x0, prediction.tokens))
    return weighed.log_weights


def read(model: dd.Diffusion) -> None:
    """One prediction, and log probabilities of every token, a few positions at a time; nothing is drawn."""
    prediction = prediction_of(model)
    rows, positions = positions_of(prediction.process.active(prediction.tokens))
    size = max((1 << 22) // model.process.vocab_size, 1)
    for part in zip(rows.split(size), positions.split(size), strict=True):
        prediction.log_denoiser(part)


def timed(action: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def parts(model: dd.Diffusion, constraint: Automaton, u: Tensor) -> dict[str, float]:
    """Seconds of each part of a constrained step."""
    prediction = prediction_of(model)
    everywhere = positions_of(prediction.process.active(prediction.tokens))
    filtered = constraint._filtered(prediction, torch.arange(BATCH))
    found = {"network": timed(lambda: prediction.log_denoiser((everywhere[0][::LENGTH], everywhere[1][::LENGTH])))}
    found["head and weights of classes"] = timed(lambda: filtered.weights_for(everywhere))
    found["filter"] = timed(lambda: filtered.ways)
    found["draw"] = timed(lambda: filtered.draw(everywhere, u))
    return found


def results(names: list[str], turns: int) -> Iterator[dict[str, Any]]:
    """One row a setting."""
    for name in names:
        vocab_size, make = SETTINGS[name]
        started = time.perf_counter()
        language = make()
        building = time.perf_counter() - started
        model = model_of(vocab_size)
        constraint = Automaton(language).bound(torch.full((BATCH,), LENGTH))
        u = torch.rand(BATCH, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        free, bound = partial(step, model, Unconstrained(), u), partial(step, model, constraint, u)
        reading, weighed = partial(read, model), partial(weighed_step, model, constraint, u)
        with torch.inference_mode():
            drawn = bound()
            assert all(language.accepts(row) for row in drawn.reshape(BATCH, LENGTH).tolist())
            free(), reading(), weighed()
            seconds = [(timed(free), timed(bound), timed(reading), timed(weighed)) for _ in range(turns)]
            split = [parts(model, constraint, u) for _ in range(turns)]
        low, middle, high = statistics.quantiles([with_ / without - 1 for without, with_, *_ in seconds], n=4)
        beside_reading = statistics.median(with_ / read_ - 1 for _, with_, read_, _ in seconds)
        yield {
            "command": " ".join(["python -m benchmarks.automata", *sys.argv[1:]]),
            "setting": name,
            "vocab_size": vocab_size,
            "states": language.num_states,
            "classes": language.num_classes,
            "length": LENGTH,
            "batch": BATCH,
            "turns": turns,
            "seconds_to_build": building,
            "seconds_without": spread([each[0] for each in seconds]),
            "seconds_with": spread([each[1] for each in seconds]),
            "seconds_reading": spread([each[2] for each in seconds]),
            "added": middle,
            "added_quartiles": [low, high],
            "added_to_reading": beside_reading,
            "seconds_with_particles": spread([each[3] for each in seconds]),
            "added_with_particles": statistics.median(weighed_ / without - 1 for without, *_, weighed_ in seconds),
            "parts": {part: statistics.median(each[part] for each in split) for part in split[0]},
            "hardware": hardware(),
        }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for row in results(arguments.only, arguments.turns):
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
