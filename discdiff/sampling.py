"""`sample`: the only loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

import torch
from torch import Tensor

from discdiff.constraints.automaton import Automaton
from discdiff.constraints.base import Constraint, Unconstrained
from discdiff.constraints.truncated import Truncated
from discdiff.constraints.weighed import Weighed
from discdiff.errors import DiscdiffWarning, IncompatibleError, check_type
from discdiff.model import Model
from discdiff.networks.evaluation import Evaluation, Memory, check_compiler, precision_of
from discdiff.particles import Population, Reward, many, weigh
from discdiff.randomness import Keys, Randomness, at_step, check_draws
from discdiff.samplers.base import Sampler, State, check_sampler
from discdiff.samplers.blockwise import default_sampler
from discdiff.sequences import Sequences

OnStep = Callable[[int, int, State], None]


@torch.no_grad()
def sample(
    model: Model,
    batch: int,
    *,
    length: int | None = None,
    lengths: Tensor | None = None,
    sampler: Sampler | None = None,
    steps: int | None = None,
    constraint: Constraint | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    particles: int = 1,
    reward: Reward | None = None,
    labels: Tensor | None = None,
    precision: str | None = None,
    compiled: bool = False,
    generator: Randomness,
    on_step: OnStep | None = None,
) -> Sequences:
    """Generate sequences.

    Args:
        model: a trained `Diffusion`, or a wrapper of one.
        batch: B rows.
        length: tokens in every row; not needed where the constraint fixes it.
        lengths: int64 `[B]`, tokens in each row, instead of `length`.
        sampler: how to get from noise to data; `Ancestral()` by default, `Blockwise()` with a
            block-causal network.
        steps: network calls of samplers that take them (of each block); by default 128 on a time grid, else one a
            position.
        constraint: what the clean sequences must satisfy. It holds with probability one.
        top_k: draw each token from the k most likely ones that the constraint allows.
        top_p: draw each token from the smallest set of most likely ones whose mass is at least this, the token that
            crosses it among them; after `top_k`. See `constraints.Truncated`.
        particles: runs for each sample. A constraint always holds; with one run the law is a proposal. With K, runs are
            weighed and resampled, and one of each K is returned: as K grows its law tends to the sampler's own law
            given the constraint, which is p0(· | accepted) for an exact sampler.
        reward: steer by a function of clean sequences, with particles: the law tends to p0(x) e^(λ r(x)), normalised.
        labels: int64 `[B]` class labels for a label-conditioned model; -1 is the null label.
        precision: "bfloat16", or "bf16", runs the network's layers before the head so: quicker on recent CPUs and GPUs,
            from a law of slightly rounded weights. None or "float32": as the weights are.
        compiled: run these layers through torch's compiler: some 10 % quicker, after a minute of compiling.
        generator: a `torch.Generator`, or `Keys` with B row ids: then row i is the same in any batch.
        on_step: called after each step with (step from 1, number of steps, state).

    Returns:
        Sequences without masks, with `calls`: the network evaluations of each row (a time-free network is not asked
        again about a state of a row that it has just seen); with particles also `effective`, the smallest effective
        size of the row's population, and `log_weights`, an estimate of the log probability that a free run of the
        sampler is accepted, its exponential unbiased (under Gibbs sweeps as far as the predictor is exact): of log
        p0(accepted) for exact samplers. A population in which no particle has any weight gives a draw as with one
        particle, log weight −∞, and a warning.

    Raises:
        IncompatibleError: lengths, labels, constraint, sampler and model do not fit together; `top_k` or `top_p` is
            out of range.
        EmptyLanguageError: nothing satisfies the constraint.
    """
    check_type("sample: batch", batch, Integral, "It is how many sequences to make.")
    check_type("sample: generator", generator, (torch.Generator, Keys), "Such as torch.Generator().manual_seed(0).")
    sampler = sampler or default_sampler(model)
    constraint = constraint or Unconstrained()
    if top_k is not None or top_p is not None:
        constraint = Truncated(constraint, top_k=top_k, top_p=top_p)
    device, process = model.device, model.process
    if batch < 1:
        raise IncompatibleError("batch", got=batch, expected="at least 1", remedy="Ask for one sequence or more.")
    sizes = _lengths(batch, length, lengths, constraint).to(device)
    width = int(sizes.max())
    if constraint.rows not in (1, batch):
        raise IncompatibleError(
            "Constraint",
            got=f"{constraint.rows} rows",
            expected=f"1 or {batch}",
            remedy="Give one table for all samples, or one for each.",
        )
    constraint.check(vocab_size=process.vocab_size, length=width)
    if particles < 1:
        raise IncompatibleError("particles", got=particles, expected="at least 1", remedy="1 is the plain sampler.")
    if reward is not None and particles == 1:
        raise IncompatibleError(
            "reward", got="one particle", expected="particles=2 or more", remedy="8 to 64 are usual."
        )
    check_sampler(sampler, model, constraint)
    dtype = precision_of(precision)
    if compiled:
        check_compiler(device)
    if particles > 1:
        truncated = top_k is not None or top_p is not None
        constraint = weigh(constraint, sampler, model, truncated=truncated)
        rows = torch.arange(batch).repeat_interleave(particles)
        constraint = constraint.index(rows) if constraint.rows > 1 else constraint
        batch, sizes, generator = len(rows), sizes[rows.to(device)], many(generator, particles)
        labels = None if labels is None else labels[rows.to(labels.device)]
    constraint = constraint.bound(sizes)
    population = None
    if particles > 1:
        assert isinstance(constraint, Automaton)
        constraint = weighed = Weighed(constraint)
        population = Population(particles, weighed, reward)
    if labels is not None and labels.shape != (batch,):
        raise IncompatibleError(
            "labels", got=f"shape {list(labels.shape)}", expected=f"[{batch}]", remedy="One label a sample."
        )

    generator = at_step(generator, 0)
    tokens = process.sample_prior((batch, width), generator=generator, device=device)
    known, frozen = (value.to(device) for value in constraint.given(batch, width))
    if not model.exact_clamps and bool(frozen.any()):
        warnings.warn(
            f"given positions under {type(process).__name__}: this network was not trained with frozen positions and "
            "takes them for possible noise, so what it fills in is biased, however many steps (use Absorbing)",
            DiscdiffWarning,
            stacklevel=2,
        )
    padding = torch.arange(width, device=device) >= sizes[:, None]
    tokens = torch.where(frozen, known, tokens).masked_fill(padding, 0)
    labels = None if labels is None else labels.to(device)
    zero = torch.zeros(batch, device=device)
    memory = None
    if sampler.revisits and not model.time_conditioned:  # which is shown another noise at every step
        memory = Memory(torch.arange(batch, device=device) // particles, size=2 * particles)
    evaluation = Evaluation(dtype, memory, {} if compiled else None)
    state = State(tokens, frozen & ~padding, padding, labels, zero.long(), zero, generator, evaluation=evaluation)
    state, plan = sampler.plan(model, state, steps)
    for k, level in enumerate(plan):
        state = sampler.step(model, constraint, replace(state, generator=at_step(generator, k + 1)), level)
        if population is not None:
            going = (process.active(state.tokens) & state.movable).any(-1)
            state = population.after_step(state, going, step=k, last=k + 1 == len(plan))
        check_draws((state.tokens, process.num_states))  # before the next step shows them to the network
        if on_step is not None:
            on_step(k + 1, len(plan), state)
    check_draws((state.tokens, process.vocab_size))  # no mask is left
    if population is None:
        return Sequences(state.tokens, sizes, labels=labels, log_weights=state.log_weights, calls=state.calls)
    state, log_mean, effective = population.select(state, at_step(generator, 0))
    each = slice(None, None, particles)
    labels = None if labels is None else labels[each]
    return Sequences(state.tokens, sizes[each], labels, log_weights=log_mean, calls=state.calls, effective=effective)


def _lengths(batch: int, length: int | None, lengths: Tensor | None, constraint: Constraint) -> Tensor:
    """int64 `[B]`: the rows' lengths from exactly one source."""
    if constraint.length is not None and lengths is not None:
        raise IncompatibleError(
            "lengths",
            got="lengths and a constraint that fixes the length",
            expected="one of the two",
            remedy="Leave lengths out.",
        )
    if lengths is not None:
        if length is not None or lengths.shape != (batch,) or int(lengths.min()) < 1:
            raise IncompatibleError(
                "lengths",
                got=f"shape {list(lengths.shape)}" + (" and length" if length is not None else ""),
                expected=f"[{batch}] positive numbers, without length",
                remedy="Give either length or lengths.",
            )
        return lengths
    if length is None:
        length = constraint.length
    if length is None or length < 1:
        raise IncompatibleError(
            "length",
            got=length,
            expected="a positive number of tokens",
            remedy="Give length=, lengths= or a template.",
        )
    return torch.full((batch,), length, dtype=torch.int64)
