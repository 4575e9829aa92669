"""What `mmaudio generate` is asked to make: a job for every sample, and that none replaces anything."""

import argparse
import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.file_names import check_distinct, file_of, ids_by_file
from mmaudio.base.samples_file import SAMPLES_FILE, check_can_add_ids
from mmaudio.commands.captions import read_captions
from mmaudio.commands.generate_lines import read_lines
from mmaudio.generate.jobs import Job
from mmaudio.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, files_by_id

MOST_NAME_BYTES = 80  # of a prompt that make a file name
PATTERN = re.compile(r"[*?\[]")


def name_of_prompt(prompt: str) -> str:
    """A name for the files of a prompt: letters, digits and dashes of any script, and underscores for all else."""
    name = re.sub(r"[^\w-]+", "_", prompt).strip("_").encode("utf-8", "replace")[:MOST_NAME_BYTES]
    return name.decode("utf-8", "ignore").strip("_") or "unnamed"


def jobs_asked_for(options: argparse.Namespace) -> list[Job]:
    """Every sample asked for, each name once. Raises: UserError with everything wrong with the inputs."""
    if not (options.video or options.image or options.jsonl) and (not options.prompt or options.captions):
        raise UserError(
            "nothing to generate from: give --video FILE (or a folder, perhaps with --captions TABLE), --image FILE, --jsonl FILE, "
            "or --prompt TEXT"
        )
    problems, jobs = Problems(), list[Job]()
    if options.captions is not None:
        jobs += problems.check(lambda: _captioned(options.video, Path(options.captions))) or []
    else:
        for path in _found(options.video, "--video", VIDEO_SUFFIXES, problems):
            jobs.append(Job(path.stem, options.prompt, video=path))
    for path in _found(options.image, "--image", IMAGE_SUFFIXES, problems):
        jobs.append(Job(path.stem, options.prompt, image=path))
    if options.jsonl is not None:
        jobs += problems.check(lambda: read_lines(Path(options.jsonl), options.prompt)) or []
    problems.raise_any()
    return _named(jobs or [Job("", options.prompt)])


def _named(jobs: Sequence[Job]) -> list[Job]:
    """Jobs without a name get one of their prompt, with a number where that is taken."""
    taken, named = {job.name for job in jobs}, list[Job]()
    for job in jobs:
        name, first = job.name, name_of_prompt(job.prompt)
        number = 1
        while not job.name and (not name or name in taken):
            name, number = first if number == 1 else f"{first}_{number}", number + 1
        taken.add(name)
        named.append(replace(job, name=name))
    return named


def _found(words: Iterable[str], option: str, suffixes: Sequence[str], problems: Problems) -> list[Path]:
    """The files that words name, in order, each once."""
    files = [path for word in words for path in problems.check(lambda word=word: _files(word, option, suffixes)) or []]  # type: ignore[misc]
    return list({path.resolve(): path for path in reversed(files)}.values())[::-1]


def _files(word: str, option: str, suffixes: Sequence[str]) -> list[Path]:
    path = Path(word)
    if path.is_file():
        return [path]
    if path.is_dir():
        found, what = list(path.iterdir()), "a folder"
    elif PATTERN.search(word):
        found, what = [Path(name) for name in glob.glob(word, recursive=True)], "a pattern"
    else:
        raise UserError(f"{option} is {path}, which is neither a file nor a folder")
    kept = sorted(file for file in found if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file())
    if not kept:
        raise UserError(f"{option} is {path}, {what} without any of {', '.join(suffixes)}")
    return kept


def _captioned(folders: Sequence[str], table_path: Path) -> list[Job]:
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        raise UserError("--captions is about the videos of a folder: give one --video FOLDER with it")
    folder = Path(folders[0])
    named = read_captions(table_path)
    there = files_by_id(folder, named, VIDEO_SUFFIXES)
    missing = [name for name in named if name not in there]
    if missing:
        raise UserError(f"{len(missing)} of the {len(named)} ids of {table_path} have no video in {folder}, the first is {missing[0]!r}")
    return [Job(name, prompt, video=there[name]) for name, prompt in named.items()]


def check_outputs(jobs: Sequence[Job], output: Path) -> None:
    """Raises: UserError where samples would replace one another or be in each other's way, or replace a video they are made from."""
    twice = [name for name, count in Counter(job.name for job in jobs).items() if count > 1]
    if twice:
        raise UserError(f"there are several files named {twice[0]!r}, whose samples would replace one another; keep one of each name")
    check_distinct((job.name for job in jobs), (".flac", ".mp4"), besides=[SAMPLES_FILE])
    check_can_add_ids(output, ids_by_file((job.name for job in jobs), ".flac"))
    made = {file_of(output, job.name, ".mp4").resolve() for job in jobs if job.source is not None}
    for job in jobs:
        if job.video is not None and job.video.resolve() in made:
            raise UserError(
                f"--output is {output}, where {job.video.name} would be replaced by its copy with new sound; name another folder"
            )
