"""Networks: what is shown noised tokens and answers with logits."""

from discdiff.networks.base import Context, Network

__all__ = ["Context", "Network"]
