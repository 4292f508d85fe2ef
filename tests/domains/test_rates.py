"""Rate matrices that domains know by name: textbook formulas, background frequencies, configurations, run folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import discdiff as dd
from discdiff.errors import ConfigError
from discdiff.experiment import Experiment
from domains.protein.rates import BACKGROUND, matrices

DNA, PROTEIN = dd.domain("dna"), dd.domain("protein")
SIGMAS = [1e-6, 0.1, 1.0, 5.0]


def transition(process: dd.Process, sigma: float) -> np.ndarray:
    """P_σ[y, x0]."""
    states = torch.arange(process.num_states)
    return process.likelihood(states, torch.full(states.shape, sigma, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("sigma", SIGMAS)
def test_jc69(sigma: float) -> None:
    """p_same = 1/4 + 3/4 e^(−4d/3), p_other = 1/4 − 1/4 e^(−4d/3) for d substitutions a site."""
    got = transition(dd.RateMatrix(4, DNA.rate_matrix("JC69")), sigma)
    other = -np.expm1(-4 / 3 * sigma) / 4
    np.testing.assert_allclose(got, np.where(np.eye(4) > 0, 1 - 3 * other, other), rtol=1e-12)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_k80(sigma: float) -> None:
    """Kimura 1980, with d = σ and κ = 5: e1 = e^(−4d/(κ+2)), e2 = e^(−2d(κ+1)/(κ+2))."""
    kappa = 5.0
    got = transition(dd.RateMatrix(4, DNA.rate_matrix("K80", kappa=kappa)), sigma)
    e1, e2 = np.exp(-4 * sigma / (kappa + 2)), np.exp(-2 * sigma * (kappa + 1) / (kappa + 2))
    same, transit, transverse = 0.25 + e1 / 4 + e2 / 2, 0.25 + e1 / 4 - e2 / 2, 0.25 - e1 / 4
    want = np.full((4, 4), transverse)  # A, C, G, T
    want[[0, 2, 1, 3], [2, 0, 3, 1]] = transit
    np.fill_diagonal(want, same)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_hky85(sigma: float) -> None:
    """Hasegawa, Kishino and Yano 1985, equation for P(j | i) at rate β: Felsenstein's closed form."""
    kappa, pi = 3.0, np.array([0.1, 0.2, 0.3, 0.4])
    group = np.array([0, 1, 0, 1])  # purines A, G; pyrimidines C, T
    total = np.array([pi[group == g].sum() for g in group])
    transversions = 2 * total[0] * total[1]
    beta = sigma / (transversions + 2 * kappa * (pi[0] * pi[2] + pi[1] * pi[3]))
    e1 = np.exp(-beta)
    want = np.zeros((4, 4))
    for x in range(4):
        for y in range(4):
            e2 = np.exp(-beta * (1 + total[y] * (kappa - 1)))
            if group[x] != group[y]:
                want[y, x] = pi[y] * (1 - e1)
            else:
                want[y, x] = pi[y] + pi[y] * (1 / total[y] - 1) * e1 + ((x == y) - pi[y] / total[y]) * e2
    process = dd.RateMatrix(4, DNA.rate_matrix("HKY85", kappa=kappa, frequencies=pi.tolist()))
    np.testing.assert_allclose(transition(process, sigma), want, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(process.stationary(dtype=torch.float64), pi, rtol=1e-12)


def test_gtr_order() -> None:
    """Exchangeabilities are those of AC, AG, AT, CG, CT, GT."""
    rates = DNA.rate_matrix("GTR", exchangeabilities=[1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(4 * rates[np.triu_indices(4, 1)], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("name", matrices(PROTEIN.letters))  # type: ignore[attr-defined]
def test_amino_acids(name: str) -> None:
    """Detailed balance with the background as limit; proper probabilities at all noise levels."""
    process = dd.RateMatrix(20, PROTEIN.rate_matrix(name))
    np.testing.assert_allclose(process.stationary(dtype=torch.float64), BACKGROUND, rtol=1e-9)
    assert process.exponential.eigen is not None
    for sigma in SIGMAS:
        p = transition(process, sigma)
        assert (p > 0).all()
        np.testing.assert_allclose(p.sum(0), 1, atol=1e-12)


def test_blosum62() -> None:
    """λ is the published 0.3176 (ungapped, Robinson's frequencies), and I ↔ V the likeliest swap of I."""
    rates = PROTEIN.rate_matrix("BLOSUM62").numpy()
    letters = "ACDEFGHIKLMNPQRSTVWY"
    i, v, w, background = letters.index("I"), letters.index("V"), letters.index("W"), np.array(BACKGROUND)
    assert np.log(rates[v, i] / background[v]) / 3 == pytest.approx(0.3176, abs=5e-5)  # its score is 3
    odds = rates / background[:, None]
    assert odds[v, i] == np.delete(odds[:, i], i).max()
    assert odds[w, i] == pytest.approx(np.exp(-3 * 0.3176), rel=1e-3)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"no rate matrix 'BLOSUM26'; it has .*Did you mean 'BLOSUM62'"):
        PROTEIN.rate_matrix("BLOSUM26")
    with pytest.raises(ConfigError, match="NUC"):
        PROTEIN.rate_matrix("NUC.4.4")
    with pytest.raises(ConfigError, match="it has GTR, HKY85, JC69, K80"):
        DNA.rate_matrix("F81")
    with pytest.raises(ConfigError, match=r"K80.*kap"):
        DNA.rate_matrix("K80", kap=2)
    with pytest.raises(ConfigError, match="has none"):
        dd.domain("text").rate_matrix("BLOSUM62")


TINY = {
    "network": {"class_path": "Transformer", "init_args": {"dim": 16, "depth": 1, "heads": 2}},
    "parameterization": "Denoiser",
    "loss": "ScoreEntropy",
    "training": {
        "max_steps": 2, "batch_size": 4, "device": "cpu", "samples": 0, "loggers": ["csv"], "validate_sequences": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "process"),
    [
        ("protein", {"class_path": "RateMatrix", "init_args": {"rates": "BLOSUM62"}}),
        ("dna", {"class_path": "RateMatrix", "init_args": {"rates": "K80", "options": {"kappa": 3.0}}}),
        ("dna", "Marginal"),
        ("dna", {"class_path": "Hybrid", "init_args": {"mask_share": 0.3}}),
    ],
    ids=["blosum", "k80", "marginal", "hybrid"],
)
def test_configured_trained_loaded(
    domain: str, process: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From YAML values to a run folder and back; loading looks up no matrix."""
    bases = ("A", "C", "G", "T")
    rows = ["".join((*bases, bases[i % 4], bases[i // 4], "A", "A", *"AAAA")) for i in range(12)]
    (tmp_path / "x.fasta").write_text("".join(f">s{i}\n{row}\n" for i, row in enumerate(rows)))
    values = {"domain": domain, "data": {"train": str(tmp_path / "x.fasta")}, "process": process, **TINY}
    Experiment.load(values=values).run(tmp_path / "run", progress=False)
    monkeypatch.setattr(type(dd.domain(domain)), "rate_matrix", None)
    pipe = dd.Pipeline.load(tmp_path / "run", device="cpu")
    loaded = pipe.model.process
    pi = loaded.stationary(dtype=torch.float64)
    if process == "Marginal":
        assert pi[0] > 1.8 * pi[1]  # more than half of the letters are A
    assert pi.isfinite().all()
    assert len(pipe.sample(2, steps=4)) == 2


def test_a_wrong_name_is_refused_before_data_are_read(tmp_path: Path) -> None:
    values = {
        "domain": "protein", "data": {"train": str(tmp_path / "none.fasta")},
        "process": {"class_path": "RateMatrix", "init_args": {"rates": "BLOSUM26"}}, **TINY,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="Did you mean 'BLOSUM62'"):
        Experiment.load(values=values).run(None, progress=False)
