"""A report on a model of molecules: one HTML file that needs nothing else."""

from __future__ import annotations

from domains.smiles.report.denoising import Denoised
from domains.smiles.report.story import Figures, Infill, Story, story_page

__all__ = ["Denoised", "Figures", "Infill", "Story", "story_page"]
