"""Say what a file holds: counts, lengths, alphabet, duplicates, and the records that cannot be used, with the reasons.

examples:
  discdiff data inspect reads.fasta.gz                          # the domain is guessed, and said
  discdiff data inspect molecules.csv --domain smiles --length 64     # what a length of 64 tokens would cut
  discdiff data inspect reads.fasta --picture lengths.png --skipped faults.jsonl
  discdiff data inspect names.txt --domain text --domain-option lines=true
  discdiff data inspect 'hf://owner/name?split=train&column=text' --limit 10000 --json

The file is read once and never held in memory; 16 to 24 bytes a record are, to find duplicates. Data sets of the hub
are looked at as they come over the network, and not stored.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from discdiff.cli import options, output, reading
from discdiff.errors import ConfigError

if TYPE_CHECKING:
    from discdiff.data.inspection import Inspection
    from discdiff.domain import Domain

WIDTH = 50
SYMBOLS = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("file", metavar="FILE", help="sequences, in a format of a domain, or a data set's name, hf://owner/name")
    reading.add_domain_arguments(parser, "; default: guessed")
    add("--length", type=options.positive, metavar="N", help="say what a longest length of N tokens would cut")
    add("--limit", type=options.positive, metavar="N", help="look at the first N sequences only")
    add("--exact-only", action="store_true", help="leave out duplicates by meaning, which for molecules takes a while")
    add("--picture", type=Path, metavar="FILE", help="draw the histogram of lengths, a PNG, PDF or SVG")
    add("--skipped", type=Path, metavar="FILE", help="list here, as JSON lines, what cannot be used")
    add("--quiet", action="store_true", help="no progress on standard error")
    group = parser.add_argument_group("reading")
    reading.add_file_arguments(group)
    output.add_output_arguments(parser, "text")


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    for path in (arguments.output, arguments.picture):
        output.check_output(path)
    reading.check_skipped(arguments)
    if arguments.picture is not None and arguments.picture.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--picture {arguments.picture}: expected a name that ends in .png, .pdf or .svg")

    from discdiff.data.files import check_file
    from discdiff.data.inspection import inspect
    from discdiff.data.paths import watching
    from discdiff.progress import progress

    check_file(arguments.file)
    given = reading.file_options(arguments)
    domain, guessed = _domain(arguments, given)
    with progress(f"reading {Path(arguments.file).name}", enabled=not arguments.quiet) as report, watching(report):
        found = inspect(
            domain, arguments.file, canonical=not arguments.exact_only, limit=arguments.limit,
            listing=arguments.skipped, **given,
        )  # fmt: skip
    with output.results(arguments.output) as stream:
        if arguments.json:
            output.write_json({"guessed": guessed} | found.to_json(arguments.length), stream)
        else:
            write_report(found, stream, guessed=guessed, length=arguments.length)
    if arguments.picture is not None:
        draw(found, arguments.picture)
    return 0


def _domain(arguments: argparse.Namespace, given: dict[str, Any]) -> tuple[Domain, bool]:
    """The domain that was named, or the one that the file looks like, and whether it was guessed."""
    from discdiff.data.inspection import guess_domain
    from discdiff.domain import domain, domain_names

    asked = reading.domain_options(arguments)
    if arguments.domain is not None:
        return domain(arguments.domain, **asked), False
    if asked:
        raise ConfigError("--domain-option: name the domain too, with --domain")
    known = {}
    for name in domain_names():
        try:
            known[name] = domain(name)
        except (ConfigError, ImportError, AttributeError):  # one that cannot be loaded, or needs options
            continue
    return known[guess_domain(arguments.file, known, **given)], True


def write_report(found: Inspection, stream: TextIO, *, guessed: bool, length: int | None) -> None:
    """Write an inspection for a person."""
    say = stream.write
    say(f"{found.path}\n")
    say(f"domain:      {found.domain}{' (guessed; --domain NAME says otherwise)' if guessed else ''}\n")
    if found.columns:
        say(f"columns:     {', '.join(found.columns)}\n")
    invalid = sum(found.faults.values())
    stopped = "" if found.whole else " (the file goes on: --limit)"
    if found.stream:
        say(f"stream:      {found.total:,} {found.unit}s, cut into blocks by length={stopped}\n")
    else:
        say(f"records:     {found.records:,} that can be used, {invalid:,} that cannot{stopped}\n")
        say(f"{found.unit + 's:':<12} {found.total:,}\n")
    _write_faults(found, stream)
    if found.records and not found.stream:
        _write_lengths(found, stream, length)
        _write_duplicates(found, stream)
    for label, count in found.labels.most_common(20):
        say(f"label:       {label}: {count:,} ({count / found.records:.1%})\n")
    _write_symbols(found, stream)
    for remark in found.remarks:
        say(f"note:        {remark}\n")


def _write_faults(found: Inspection, stream: TextIO) -> None:
    for reason, count in found.faults.most_common(20):
        stream.write(f"invalid:     {count:,} × {reason}\n")
        if reason in found.first:
            stream.write(f"             first: {found.first[reason]}\n")
    if (rest := len(found.faults) - 20) > 0:
        stream.write(f"             and {rest:,} more reasons; --skipped FILE lists all\n")


def _write_lengths(found: Inspection, stream: TextIO, length: int | None) -> None:
    from discdiff.data.inspection import SHARES, bins

    marks = ", ".join(
        f"{name} {found.quantile(share):,}"
        for name, share in (("min", 0.0), ("quartiles", 0.25), ("", 0.5), ("", 0.75), ("max", 1.0))
    ).replace(",  ", ", ")  # fmt: skip
    stream.write(f"lengths:     {marks}; mean {found.total / found.records:,.1f} ({found.unit}s)\n")
    rows = bins(found.lengths)
    most = max(count for _, _, count in rows)
    names = [f"{start:,}" if start == stop else f"{start:,}-{stop:,}" for start, stop, _ in rows]
    for name, (_, _, count) in zip(names, rows, strict=True):
        bar = "█" * (count * WIDTH // most) or ("▏" if count else "")
        stream.write(f"  {name:>{max(map(len, names))}} {bar} {count:,}\n")
    takes = {found.quantile(share): share for share in SHARES}  # the same length, by the greatest share
    stream.write(f"length=N:    {', '.join(f'{size:,} takes {share:.0%}' for size, share in takes.items())}\n")
    if length is not None:
        count, symbols = found.longer(length)
        stream.write(
            f"length={length}:".ljust(13)
            + f"{count:,} of {found.records:,} sequences are longer ({count / found.records:.2%}); "
            f"cropped, {symbols:,} {found.unit}s go ({symbols / max(found.total, 1):.2%})\n"
        )


def _write_duplicates(found: Inspection, stream: TextIO) -> None:
    pairs = "; ".join(f"record {later} = record {earlier}" for later, earlier in found.duplicate_places)
    stream.write(f"duplicates:  {found.duplicates or 0:,} exact")
    if found.canonical_duplicates is not None:
        stream.write(f", {found.canonical_duplicates:,} in the canonical form")
    stream.write(f" ({pairs})\n" if pairs else "\n")


def _write_symbols(found: Inspection, stream: TextIO) -> None:
    total = sum(found.symbols.values()) or 1
    stream.write(f"alphabet:    {len(found.symbols):,} different\n")
    shown = [f"{symbol!r} {count / total:.2%}" for symbol, count in found.symbols.most_common(SYMBOLS)]
    for start in range(0, len(shown), 8):
        stream.write("             " + "  ".join(shown[start : start + 8]) + "\n")
    if len(found.symbols) > SYMBOLS:
        rare = [f"{symbol!r} {count:,}" for symbol, count in found.symbols.most_common()[-5:]]
        stream.write(f"             …; the rarest: {', '.join(rare)}\n")


def draw(found: Inspection, path: Path) -> None:
    """Draw the histogram of lengths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    from discdiff.data.inspection import bins
    from discdiff.errors import require

    figure = require("matplotlib.figure").Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for start, stop, count in bins(found.lengths, most=60):
        axes.bar((start + stop) / 2, count, width=0.95 * (stop - start + 1), color="#1f6f8b")
    axes.set_xlabel(f"length ({found.unit}s)")
    axes.set_ylabel("sequences")
    axes.set_title(f"{Path(found.path).name}: {found.records:,} sequences")
    output.save_picture(figure, path)
