"""The README's table, from the recorded runs.

    python benchmarks/table.py

Reads `benchmarks/results/*-cpu.json` (of `real_data.py`) and `ngram.jsonl` (of `ngram.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def ngrams() -> dict[str, dict[int, float]]:
    """Bits per unit by config and order."""
    found: dict[str, dict[int, float]] = {}
    for line in (RESULTS / "ngram.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(Path(row["config"]).stem, {})[row["order"]] = row["bits_per_unit"]
    return found


def samples(metrics: dict[str, Any]) -> str:
    """Validity of molecules, and the total variation of bigrams from held-out data."""
    shown = []
    if "properties" in metrics and metrics["valid"]["ratio"] < 1:  # of molecules
        valid, unique, novel = (metrics[name] for name in ("valid", "unique", "novel"))
        shown.append(f"{100 * valid['ratio']:.1f} % valid ({valid['count']} of {valid['of']})")
        shown.append(f"{100 * unique['ratio']:.1f} % of them unique, {100 * novel['ratio']:.0f} % novel")
    shown.append(f"bigram TV {metrics['composition']['bigram']:.3f}")
    return ", ".join(shown)


def main() -> None:
    known = ngrams()
    print("| data | min, tokens/s | bits per | bound | bigram | best n-gram | samples |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(RESULTS.glob("*-cpu.json")):
        result = json.loads(path.read_text())
        name = Path(result["config"]).stem
        bound, training, orders = result["bound"], result["training"], known.get(name, {})
        best = min(orders, key=lambda order: orders[order]) if orders else None
        print(
            f"| {name}, {bound['split']} | {training['seconds'] / 60:.0f}, {training['tokens_per_second']:,} "
            f"| {bound['unit']} | **{bound['bits_per_unit']:.3f}** ± {bound['bits_per_unit_standard_error']:.3f} "
            f"| {orders.get(2, float('nan')):.3f} | {'' if best is None else f'{orders[best]:.3f} ({best})'} "
            f"| {samples(result['sampling']['metrics'])} |"
        )


if __name__ == "__main__":
    main()
