"""What constraints on text cost and give, on trained runs: dates, a JSON record, rhymes, listed words.

    python -m benchmarks.constraints_text --runs runs --count 16 --tries 256 > benchmarks/results/constraints-text.jsonl

`--runs` holds run folders of configs/text8.yaml, tinyshakespeare.yaml and wikitext2.yaml. Prints one JSON line a task:
the share of samples that a check in plain Python accepts, with the constraint and without it; seconds a sample of
both, at the same lengths, and the seconds that rejection needs for one accepted sample, where it ever accepts; the
automaton's size; samples. The check of each task knows nothing of automata: `re`, `json`, sets of words.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import discdiff as dd
from benchmarks.real_data import hardware
from discdiff.constraints import Automaton
from discdiff.pipeline.inputs import constraint_of
from discdiff.rules import Rules

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
DATE = rf"({MONTHS}) ([1-9]|[12]\d|3[01]) , (1[89]|20)\d\d"
RECORD = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "pattern": "^[A-Z][a-z]{2,12}( [a-z]{2,12}){0,3}$"},
        "year": {"type": "integer", "minimum": 1500, "maximum": 2030},
        "kind": {"enum": ["ship", "film", "song", "game"]},
        "rating": {"type": "number", "digits": 1, "decimals": 1},
        "tags": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z]{3,9}$"},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["title", "year", "kind", "tags"],
}
RHYME = r"[A-Z][a-z ,']{20,32} (day|way|say|may),\n[A-Z][a-z ,']{20,32} (away|to-day|stay|pray)[.!?]\n"
WORDS = (
    "the,of,and,one,in,a,to,zero,nine,two,is,as,eight,for,s,five,three,was,by,that,four,six,seven,with,on,are,it,from,"
    "or,his,an,be,this,which,at,he,also,not,have,were,has,but,other,their,its,first,they,some,had,all,more,most,can,"
    "been,such,many,who,new,used,there,after,when,into,american,time,these,only,see,may,than,world,i,b,would,no,d"
)


def is_record(text: str) -> bool:
    """Whether a text is a record as `RECORD` asks."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return False
    if not isinstance(found, dict) or not {"title", "year", "kind", "tags"} <= set(found) <= set(RECORD["properties"]):
        return False
    tags = found["tags"]
    return (
        isinstance(found["title"], str)
        and re.fullmatch("[A-Z][a-z]{2,12}( [a-z]{2,12}){0,3}", found["title"]) is not None
        and type(found["year"]) is int
        and 1500 <= found["year"] <= 2030
        and found["kind"] in ("ship", "film", "song", "game")
        and isinstance(found.get("rating", 0), int | float)
        and isinstance(tags, list)
        and 1 <= len(tags) <= 3
        and all(isinstance(tag, str) and re.fullmatch("[a-z]{3,9}", tag) for tag in tags)
    )


@dataclass(frozen=True)
class Task:
    """One thing to ask for.

    Attributes:
        run: a run folder's name.
        template: with what is asked, or None.
        free: the same template with nothing asked of its holes, for rejection; None for whole samples.
        rules: by name.
        length: tokens.
        check: whether a sample is what was asked, in plain Python.
    """

    run: str
    check: Callable[[str], bool]
    template: str | None = None
    free: str | None = None
    rules: Rules = field(default_factory=dict)
    length: int | None = None


BEFORE, AFTER = "The ship was launched on", " , and sank in the storm ."
TASKS = {
    "date in a sentence": Task(
        "wikitext2-cpu",
        lambda text: re.fullmatch(re.escape(BEFORE) + " " + DATE + re.escape(AFTER), text, re.ASCII) is not None,
        template=f"{BEFORE} [MASK/(?a){DATE}/]{AFTER}",
        free=f"{BEFORE} [MASK:5]{AFTER}",
    ),
    "JSON record": Task("wikitext2-cpu", is_record, rules={"json": json.dumps(RECORD), "length": "36-60"}, length=None),
    "rhymed couplet": Task(
        "tinyshakespeare-cpu", lambda text: re.fullmatch(RHYME, text) is not None, rules={"regex": RHYME}, length=64
    ),
    "a word, 24 characters": Task(
        "text8-cpu", lambda text: " of the " in text, rules={"require": " of the "}, length=24
    ),
    "listed words, 32 characters": Task(
        "text8-cpu", lambda text: set(text.split()) <= set(WORDS.split(",")), rules={"words": WORDS}, length=32
    ),
}


def timed(action: Callable[[], list[str]]) -> tuple[list[str], float]:
    """What it gives, and seconds."""
    started = time.perf_counter()
    found = action()
    return found, time.perf_counter() - started


def free_of(pipe: dd.Pipeline, task: Task, lengths: Sequence[int], seed: int, batch: int) -> list[str]:
    """Samples without what is asked, of the same lengths."""
    if task.free is not None:
        return pipe.infill(task.free, len(lengths), seed=seed, batch_size=batch)
    found: list[str] = []
    for length in sorted(set(lengths)):
        found += pipe.sample(lengths.count(length), length=length, seed=seed, batch_size=batch)
    return found


def results(
    folder: Path, names: list[str], *, count: int, tries: int, batch: int, seed: int
) -> Iterator[dict[str, Any]]:
    """One row a task."""
    pipes: dict[str, dd.Pipeline] = {}
    for name in names:
        task = TASKS[name]
        if task.run not in pipes:
            pipes[task.run] = dd.Pipeline.load(folder / task.run, device="cpu")
            pipes[task.run].sample(1, length=8)  # the first call of a process is slower
        pipe = pipes[task.run]
        started = time.perf_counter()
        asked = constraint_of(pipe.domain, task.template, task.rules, None, longest=pipe.max_length, length=task.length)
        building = time.perf_counter() - started
        assert isinstance(asked, Automaton)

        def draw(task: Task = task, pipe: dd.Pipeline = pipe) -> list[str]:
            if task.template is not None:
                return pipe.infill(task.template, count, rules=task.rules, seed=seed, batch_size=batch)
            return pipe.sample(count, rules=task.rules, length=task.length, seed=seed, batch_size=batch)

        samples, seconds = timed(draw)
        lengths = [len(pipe.domain.encode(text)) for text in samples]
        many = [lengths[k % count] for k in range(tries)]
        tried, spent = timed(lambda: free_of(pipe, task, many, seed + 1, batch))  # noqa: B023 (called at once)
        accepted = [text for text in tried if task.check(text)]
        yield {
            "command": " ".join(["python -m benchmarks.constraints_text", *sys.argv[1:]]),
            "task": name,
            "run": task.run,
            "template": task.template,
            "rules": task.rules,
            "states": asked.language.num_states,
            "classes": asked.language.num_classes,
            "count": count,
            "satisfied": sum(map(task.check, samples)) / count,
            "distinct": len(set(samples)) / count,
            "seconds_to_build": building,
            "seconds_a_sample": (seconds - building) / count,
            "seconds_a_sample_free": spent / tries,
            "tries": tries,
            "satisfied_free": len(accepted) / tries,
            "seconds_a_sample_by_rejection": spent / len(accepted) if accepted else None,
            "mean_length": sum(lengths) / count,
            "samples": samples[:4],
            "by_rejection": accepted[:2],
            "hardware": hardware(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="the folder of run folders")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--count", type=int, default=16, help="samples of each task; default 16")
    parser.add_argument("--tries", type=int, default=256, help="of rejection; default 256")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = results(
        arguments.runs,
        arguments.only,
        count=arguments.count,
        tries=arguments.tries,
        batch=arguments.batch_size,
        seed=arguments.seed,
    )
    for row in rows:
        shown = {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
        print(json.dumps(shown, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
