"""How likely sequences are: bounds, exact ordered likelihoods, mixtures over orders, spans given the rest."""

from discdiff.likelihood.nelbo import nelbo
from discdiff.likelihood.orders import any_order_likelihood, ordered_likelihood
from discdiff.likelihood.results import Bound, Likelihood
from discdiff.likelihood.span import conditional_likelihood

__all__ = ["Bound", "Likelihood", "any_order_likelihood", "conditional_likelihood", "nelbo", "ordered_likelihood"]
