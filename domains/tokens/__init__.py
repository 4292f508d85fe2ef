"""Tokens: sequences of integers, such as the codes of a vector quantizer."""

from domains.tokens.domain import Tokens

__all__ = ["Tokens"]
