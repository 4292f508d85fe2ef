"""The entry point: parses, runs, and turns errors into one or two lines and an exit code."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from discdiff.cli import data, domains, evaluate, export, infill, options, profile, push, sample, score, show, train
from discdiff.cli.commands import add_command

COMMANDS = {
    "train": train,
    "sample": sample,
    "infill": infill,
    "score": score,
    "evaluate": evaluate,
    "profile": profile,
    "data": data,
    "show": show,
    "export": export,
    "push": push,
    "domains": domains,
}
EPILOG = """\
examples:
  discdiff train molecules.smi --domain smiles --output runs/mine
  discdiff train --config configs/ecoli_promoters.yaml --data-root data
  discdiff sample runs/mine -n 100
  discdiff infill runs/mine 'c1ccccc1{6}C(=O)O' -n 16
  discdiff score runs/mine held_out.smi
  discdiff evaluate runs/mine --reference held_out.smi
  discdiff profile runs/mine
  discdiff data inspect molecules.smi
  discdiff show runs/mine
  discdiff export runs/mine mine

`discdiff COMMAND --help` has the options and more examples. Results go to standard output, all else to
standard error. Exit codes: 0 done, 2 a fault in what was given, 130 interrupted, 1 a fault of discdiff itself.
"""


class Parser(argparse.ArgumentParser):
    """Refuses what it does not know in one line, with the nearest option, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        stop = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"{self.prog}: {message}{stop} See `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; needs nothing but the standard library."""
    built = Parser(
        prog="discdiff",
        description="Discrete diffusion for sequences: train, sample, infill and score.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    built.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = built.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for name, module in COMMANDS.items():
        add_command(commands, name, module).set_defaults(run=module.run)
    return built


class _Version(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"discdiff {version('discdiff')}")
        sys.exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Raises:
        SystemExit: after `--help`, or on options that cannot be parsed (code 2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    built = parser()
    if not words:
        built.print_help()
        return 0
    # options of the configuration (--training.max_steps 100) are taken out first: argparse would not know which of
    # the words after them are their values
    configuration: list[str] = []
    if words[0] == "train":
        words, configuration = train.split(words, _command(built, "train"))
    arguments, unknown = built.parse_known_args(words)
    if unknown:
        fail = getattr(arguments, "parser", built)
        fail.error(_unknown(unknown, fail))
    if arguments.command is None:
        built.error("name a command.")
    arguments.configuration = configuration
    try:
        with _notes():
            options.fetch(arguments)
            return int(arguments.run(arguments) or 0)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:
        # the reader of our output has gone (`discdiff sample … | head`); keep the interpreter from flushing into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, SystemExit) as error:
        if arguments.debug or isinstance(error, SystemExit):
            raise
        return _report(error, arguments)


@contextmanager
def _notes() -> Iterator[None]:
    """Show discdiff's own warnings as notes; others as Python does."""
    from discdiff.errors import DiscdiffWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", DiscdiffWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, DiscdiffWarning):
                _say(_without_arguments(str(message)), 0)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = note
        yield


def _without_arguments(message: str) -> str:
    """A warning's Python arguments as the options that a shell user types."""
    return message.removeprefix("nelbo: ").replace("raise max_samples or the tolerance", "raise --tolerance")


def _command(built: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    found = next(action for action in built._actions if isinstance(action, argparse._SubParsersAction))
    command: argparse.ArgumentParser = found.choices[name]
    return command


def _unknown(words: Iterable[str], fail: argparse.ArgumentParser) -> str:
    word = next((w for w in words if w.startswith("-")), next(iter(words)))
    near = difflib.get_close_matches(word.split("=")[0], fail._option_string_actions, n=1)
    kind = "option" if word.startswith("-") else "argument"
    return f"unknown {kind} {word}" + (f"; did you mean {near[0]}?" if near else "")


def _report(error: BaseException, arguments: argparse.Namespace) -> int:
    from discdiff.errors import DiscdiffError

    command: str = arguments.command

    if isinstance(error, DiscdiffError):
        said = _as_options(str(error)) if command == "train" else _with_own_option(str(error), vars(arguments))
        return _say(said, 2)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", 2)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return _say(f"out of memory ({error}). Try a smaller batch or model.", 2)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - a name for a message
    return _say(
        f"{type(error).__name__} at {place}: {error}\n"
        f"This is a fault of discdiff, not of your input; run `discdiff {command} … --debug` for the traceback.",
        1,
    )


def _as_options(message: str) -> str:
    """A remedy's Python arguments as the options that a shell user types."""
    message = re.sub(r"\b(on_unknown|on_invalid|gaps|validate)='(\w+)'", r"--domain.\1 \2", message)
    message = re.sub(r"\b(on_long|on_error)='(\w+)'", r"--data.\1 \2", message)
    message = re.sub(r"\b(format|encoding)='([\w-]+)'", r"--data.options.\1 \2", message)
    message = re.sub(r"\bpass separator=", "pass --data.options.separator ", message)
    message = re.sub(r"\bname one by (\w+_column)=", r"name one by --data.\1", message)
    return re.sub(r"\bdevice='(\w+)'", r"--training.device \1", message)


def _with_own_option(message: str, options: Container[str]) -> str:
    """A remedy with the command's own options, instead of Python's arguments and a run's policies of reading."""

    def own(found: re.Match[str]) -> str:
        name = found[2]
        value = shlex.quote(found[3][1:-1]) if found[3] else ""
        return f"{found[1]}--{name.replace('_', '-')} {value}".rstrip() if name in options else found[0]

    message = re.sub(r"\b(pass |its own encoding: )(format|encoding|separator)=('[^']+'|)", own, message)
    message = re.sub(r"\b(name one by )(\w+_column)=()", own, message)
    message = message.replace("on_error='skip'", "--on-error skip")
    message = re.sub(r"with on_unknown='skip'", "with --on-error skip", message)
    message = re.sub(r"on_unknown='skip' ([^()]*?), 'split'[^()]*", r"--on-error skip \1", message)
    message = re.sub(r"on_invalid='skip'", "--on-error skip", message)
    return re.sub(r", or name its own encoding: encoding='[\w-]+', say", "", message)


def _say(message: str, code: int) -> int:
    from discdiff.launch import launched

    found = launched()
    of_many = f" [process {found.rank}]" if found is not None and found.rank else ""
    # a progress display may have left the cursor within a line
    print(f"discdiff{of_many}: {message}", file=sys.stderr, flush=True)
    return code
