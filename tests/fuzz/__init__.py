"""Inputs that nobody wrote on purpose: random, mutated, nearly valid. Each is read, or refused by one of our errors."""
