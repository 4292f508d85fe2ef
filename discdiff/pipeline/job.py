"""`Job`: samples in part files of fixed ranges, and the `job.json` that says what they are.

    job.json              format version, n, part size, format, sha256 of the run's weights, all arguments
    job.lock              which process makes which part (see `Claims`)
    part-000123.parquet   samples 123 · part_size … of the job, whole or not there

A part follows from `job.json` and its number alone, so that any process may make any part, at any time, again.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discdiff import __version__
from discdiff.errors import DiscdiffError, IncompatibleError
from discdiff.pipeline.claims import Claims
from discdiff.pipeline.part_formats import PartFormat
from discdiff.writing import write_whole

JOB_VERSION = 1
JOB_FILE, LOCK_FILE = "job.json", "job.lock"
MOST_PARTS = 1_000_000
_KEYS = {"format_version", "discdiff", "n", "part_size", "format", "run", "arguments", "tag"}
_TEMPORARY = re.compile(r"\.part-(\d{6})\.\w+\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Job:
    """A folder of parts.

    Attributes:
        folder: where they are.
        n: samples in all.
        part_size: samples in a part; the last one may have fewer.
        form: of the files.
        claims: which of them this process makes.
    """

    folder: Path
    n: int
    part_size: int
    form: PartFormat
    claims: Claims

    @property
    def parts(self) -> range:
        """The numbers of all parts."""
        return range(-(-self.n // self.part_size))

    def numbers(self, part: int) -> range:
        """The samples of a part."""
        return range(part * self.part_size, min(self.n, (part + 1) * self.part_size))

    def path(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self.folder / self._name(part)

    def missing(self) -> list[int]:
        """The parts that are not there."""
        with os.scandir(self.folder) as entries:
            there = {entry.name for entry in entries}
        return [part for part in self.parts if self._name(part) not in there]

    def _name(self, part: int) -> str:
        return f"part-{part:06d}.{self.form.suffix}"

    def survey(self, note: Callable[[str], None]) -> None:
        """Look through what is there: damaged parts and what killed processes left half-written are removed.

        Args:
            note: takes what there is to say of it.
        """
        missing = set(self.missing())
        for part in self.parts:
            fault = None if part in missing else self.form.fault(self.path(part), self.numbers(part))
            if fault is not None and self.claims.take(part):
                self.path(part).unlink(missing_ok=True)
                self.claims.release(part)
                note(f"{self.path(part)}: {fault}; it is made again")
        if not self.claims.supported:
            return  # nothing tells whether the writer lives
        for path in self.folder.iterdir():
            written = _TEMPORARY.fullmatch(path.name)
            if written is not None and self.claims.take(int(written[1])):
                path.unlink(missing_ok=True)
                self.claims.release(int(written[1]))

    def write(self, part: int, content: bytes) -> None:
        """Put a part in its place.

        Raises:
            DiscdiffError: the disk is full or fails; the parts that are there stand.
        """
        try:
            write_whole(self.path(part), content, mark=_mark())
        except OSError as error:
            there = len(self.parts) - len(self.missing())
            raise DiscdiffError(
                f"{self.path(part)}: cannot be written ({error.strerror or error}); {there} of {len(self.parts)} parts "
                "are finished and stand. Make room, then give the same command again: it goes on from there."
            ) from error


def open_job(
    folder: Path,
    *,
    n: int,
    part_size: int,
    form: PartFormat,
    format_name: str,
    run: Mapping[str, Any],
    arguments: Mapping[str, Any],
    tag: str | None,
) -> Job:
    """Begin a job, or join the one that the folder holds; close its `claims` in the end.

    Args:
        folder: made where it is missing.
        n: samples in all; may be more than when the job was begun, while nobody works on it.
        part_size: samples in a part.
        form: of the files.
        format_name: what it is called.
        run: what the samples are drawn from.
        arguments: how, as `Asked.to_json`.
        tag: stands for what cannot be written down.

    Raises:
        IncompatibleError: the folder holds another job; names what differs.
        DiscdiffError: the folder holds something else, or a damaged `job.json`.
    """
    for name, value in {"n": n, "part_size": part_size}.items():
        number: object = value
        if not isinstance(number, int) or number < 1:
            raise DiscdiffError(f"{name}: got {value!r}, expected a whole number from 1 on")
    if -(-n // part_size) > MOST_PARTS:
        raise DiscdiffError(
            f"part_size: got {part_size}, which makes {-(-n // part_size):,} parts; expected at most {MOST_PARTS:,}: "
            f"give {-(-n // MOST_PARTS)} or more"
        )
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "format_version": JOB_VERSION,
        "discdiff": __version__,
        "n": n,
        "part_size": part_size,
        "format": format_name,
        "run": dict(run),
        "arguments": dict(arguments),
        "tag": tag,
    }
    claims = Claims(folder / LOCK_FILE)
    job = Job(folder, n, part_size, form, claims)
    try:
        with claims.alone():
            for path in folder.glob(f".{JOB_FILE}.*.tmp"):
                path.unlink()  # half-written by a process that was killed
            if not (folder / JOB_FILE).exists():
                _write_settings(folder, wanted)
            else:
                found = read_settings(folder)
                _compare(folder, found, wanted)
                if n > found["n"]:
                    _grow(job, found["n"], wanted)
            claims.join()
    except BaseException:
        claims.close()
        raise
    return job


def check_folder(folder: Path) -> None:
    """Refuse, before any work, a folder that holds something else than a job.

    Raises:
        DiscdiffError: it does, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DiscdiffError(f"{folder}: this is a file; a job takes a folder")
    if folder.is_dir() and not (folder / JOB_FILE).exists():
        others = sorted(path.name for path in folder.iterdir() if JOB_FILE not in path.name and path.name != LOCK_FILE)
        if others and not (folder / JOB_FILE).exists():  # another process may just have begun
            raise DiscdiffError(
                f"{folder}: this is a folder with {others[0]} and no {JOB_FILE} in it; name a new or empty folder for "
                "a job, or a file to write"
            )


def _write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    path = folder / JOB_FILE
    try:
        text = json.dumps(settings, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(path, text, mark=_mark())
    except OSError as error:
        raise DiscdiffError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_settings(folder: Path) -> dict[str, Any]:
    """What a folder's `job.json` says.

    Raises:
        DiscdiffError: it is missing, damaged, or of another version.
    """
    path = folder / JOB_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DiscdiffError(f"{folder}: holds no {JOB_FILE}; name the folder of a job (sample -o FOLDER)") from error
    except (OSError, ValueError) as error:
        raise DiscdiffError(f"{path}: cannot be read ({error}); name another folder for a new job") from error
    version = found.get("format_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DiscdiffError(f"{path}: damaged: no format_version")
    if version != JOB_VERSION:
        newer = f" discdiff {found.get('discdiff')} wrote it; update discdiff." if version > JOB_VERSION else ""
        raise DiscdiffError(f"{path}: format version {version}, this discdiff reads {JOB_VERSION}.{newer}")
    odd = sorted(set(found) ^ _KEYS)
    if odd:
        raise DiscdiffError(f"{path}: damaged: keys missing or unknown: {', '.join(odd)}")
    for key, kind in {"n": int, "part_size": int, "format": str, "run": dict, "arguments": dict}.items():
        if not isinstance(found[key], kind) or (kind is int and found[key] < 1):
            raise DiscdiffError(f"{path}: damaged: {key} is {found[key]!r}")
    return found


def _compare(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse another job, naming what differs."""
    for name, here, there in _differences(found, wanted):
        raise IncompatibleError(
            f"{folder / JOB_FILE}: {name}",
            got=_shown(here),
            expected=f"{_shown(there)}, that of the job begun there",
            remedy="Give what the job was begun with to go on with it, or name another folder.",
        )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in ("part_size", "format", "tag"):
        if found[key] != wanted[key]:
            yield key, wanted[key], found[key]
    for group, title in (("run", "the run's {}"), ("arguments", "{}")):
        for name in sorted(found[group].keys() | wanted[group].keys()):
            here, there = wanted[group].get(name), found[group].get(name)
            if here != there:
                yield title.format(name), here, there
    if wanted["n"] < found["n"]:
        yield "n", wanted["n"], found["n"]


def _mark() -> str:
    """Ends the names of files that are not whole yet, whichever process of whichever machine writes them."""
    return f"{uuid.uuid4().hex}.tmp"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    text = text.strip('"')[:12] + "…" if re.fullmatch(r'"[0-9a-f]{64}"', text) else text
    return text if len(text) <= 200 else text[:200] + "…"


def _grow(job: Job, before: int, wanted: Mapping[str, Any]) -> None:
    """Let a job have more samples. A last part that was cut short is made again, as a whole one."""
    if job.claims.others():
        raise IncompatibleError(
            f"{job.folder / JOB_FILE}: n",
            got=job.n,
            expected=f"{before} while other processes are at work on the job",
            remedy="Wait until they have ended, or end them.",
        )
    if before % job.part_size:
        job.path(before // job.part_size).unlink(missing_ok=True)
    _write_settings(job.folder, wanted)


__all__ = ["Job", "check_folder", "open_job", "read_settings"]
