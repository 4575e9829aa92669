"""Options and JSON lines to jobs."""

import argparse
import glob
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.specs import AudioSpec
from mmaudio.clips.clip_tables import read_captions
from mmaudio.files.atomic import parse_json
from mmaudio.files.file_names import check_distinct, file_of, ids_by_file
from mmaudio.files.owned_files import SAMPLES_FILE, check_can_add_ids
from mmaudio.files.ownership import at_end_of_links, foreign_files
from mmaudio.generate.jobs import GenerationJob
from mmaudio.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, files_by_id

# ---- What options and lines may say

ANY_MODE = "16k"  # every mode has the same shortest duration


def check_seed(seed: int, name: str) -> None:
    """Raises: UserError for one that the draws cannot be keyed by."""
    if not 0 <= seed < 2**63:
        raise UserError(f"{name} is {seed}; want a whole number from 0 to 2^63 - 1")


def check_duration(duration_s: float, where: str = "--duration") -> None:
    """Raises: UserError for seconds that no sample can have; its sentence begins with `where`, which names what says so."""
    if math.isinf(duration_s):
        raise UserError(f"{where}: duration is {duration_s} s; want a number of seconds")
    try:
        AudioSpec(ANY_MODE, duration_s)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


# ---- The lines of `mmaudio generate --jsonl`: one JSON object a sample, each key optional

KEYS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("video", "image", "prompt", "negative_prompt", "name"), (str,)),
    "duration": (int, float),
    "seed": (int,),
}
WORDS = {str: "a text", int: "a whole number", float: "a number"}
LONGEST_NAME_BYTES = 150  # with suffix and what a file is called while it is written, still a name that disks take
MOST_TOLD = 20


def read_lines(path: Path, prompt: str) -> list[GenerationJob]:
    """A job for every line that is not blank; one that has no name and is of no file has "" for it.

    Args:
        prompt: of lines that have none.
    Raises: UserError with a sentence for each line that cannot be used, by its number.
    """
    if not path.is_file():
        raise UserError(f"--jsonl is {path}, which is not a file")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    problems, jobs = Problems(), list[GenerationJob]()
    for number, line in enumerate(lines, 1):
        if line.strip():
            job = problems.check(lambda number=number, line=line: _job(line, f"{path}, line {number}", path.parent, prompt))  # type: ignore[misc]
            jobs += [] if job is None else [job]
    if len(problems.sentences) > MOST_TOLD:
        more = len(problems.sentences) - MOST_TOLD
        raise UserError(*problems.sentences[:MOST_TOLD], f"{path}: {more} more lines cannot be used")
    problems.raise_any()
    if not jobs:
        raise UserError(f'{path} has no line with anything to generate; want a JSON object a line, such as {{"prompt": "rain"}}')
    return jobs


def _job(line: str, where: str, folder: Path, prompt: str) -> GenerationJob:
    told = _object(line, where)
    if "video" in told and "image" in told:
        raise UserError(f"{where} names both a video and an image; keep one of them")
    files = {key: folder / told[key] for key in ("video", "image") if key in told}
    for key, file in files.items():
        if not file.is_file():
            raise UserError(f"{where}: no {key} at {file}")
    prompt = told.get("prompt", prompt)
    if not files and not prompt:
        raise UserError(f"{where} has neither video, image nor prompt; there is nothing to generate from")
    if "duration" in told:
        check_duration(float(told["duration"]), where)
    if "seed" in told:
        check_seed(told["seed"], f"{where}: seed")
    name = _name(told["name"], where) if "name" in told else next((file.stem for file in files.values()), "")
    duration_s = float(told["duration"]) if "duration" in told else None
    return GenerationJob(name, prompt, files.get("video"), files.get("image"), told.get("negative_prompt"), duration_s, told.get("seed"))


def _object(line: str, where: str) -> Mapping[str, Any]:
    """What a line says; a key whose value is null says nothing. Raises: UserError."""
    try:
        told = parse_json(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON ({error.msg} at character {error.pos + 1})") from None
    if not isinstance(told, dict):
        raise UserError(f'{where} is no JSON object; want one such as {{"video": "a.mp4", "prompt": "rain"}}')
    for key, value in told.items():
        if key not in KEYS:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, KEYS)}; known are {', '.join(KEYS)}")
        if value is not None and (not isinstance(value, KEYS[key]) or isinstance(value, bool)):
            raise UserError(f"{where}: {key} is {json.dumps(value)}; want {WORDS[KEYS[key][-1]]}")
    return {key: value for key, value in told.items() if value is not None}


def _name(name: str, where: str) -> str:
    is_usable = name == Path(name).name and name not in ("", ".", "..") and "\0" not in name
    if not is_usable or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME_BYTES:
        raise UserError(f"{where}: name is {name[:80]!r}; want a name of files, without slashes, of at most {LONGEST_NAME_BYTES} bytes")
    return name


MOST_NAME_BYTES = 80  # of a prompt that make a file name
PATTERN = re.compile(r"[*?\[]")


def name_of_prompt(prompt: str) -> str:
    """A name for the files of a prompt: letters, digits and dashes of any script, and underscores for all else."""
    name = re.sub(r"[^\w-]+", "_", prompt).strip("_").encode("utf-8", "replace")[:MOST_NAME_BYTES]
    return name.decode("utf-8", "ignore").strip("_") or "unnamed"


# ---- The jobs that options ask for


def jobs_asked_for(options: argparse.Namespace) -> list[GenerationJob]:
    """Every sample asked for, each name once. Raises: UserError with everything wrong with the inputs."""
    if not (options.video or options.image or options.jsonl) and (not options.prompt or options.captions):
        raise UserError(
            "nothing to generate from: give --video FILE (or a folder, perhaps with --captions TABLE), --image FILE, --jsonl FILE, "
            "or --prompt TEXT"
        )
    problems, jobs = Problems(), list[GenerationJob]()
    if options.captions is not None:
        jobs += problems.check(lambda: _captioned(options.video, Path(options.captions))) or []
    else:
        for path in _found(options.video, "--video", VIDEO_SUFFIXES, problems):
            jobs.append(GenerationJob(path.stem, options.prompt, video=path))
    for path in _found(options.image, "--image", IMAGE_SUFFIXES, problems):
        jobs.append(GenerationJob(path.stem, options.prompt, image=path))
    if options.jsonl is not None:
        jobs += problems.check(lambda: read_lines(Path(options.jsonl), options.prompt)) or []
    problems.raise_any()
    return _named(jobs or [GenerationJob("", options.prompt)])


def _named(jobs: Sequence[GenerationJob]) -> list[GenerationJob]:
    """Jobs without a name get one of their prompt, with a number where that is taken."""
    taken, named = {job.name for job in jobs}, list[GenerationJob]()
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
    return list({at_end_of_links(path): path for path in reversed(files)}.values())[::-1]


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


def _captioned(folders: Sequence[str], table_path: Path) -> list[GenerationJob]:
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        raise UserError("--captions is about the videos of a folder: give one --video FOLDER with it")
    folder = Path(folders[0])
    named = read_captions(table_path)
    there = files_by_id(folder, named, VIDEO_SUFFIXES)
    missing = [name for name in named if name not in there]
    if missing:
        raise UserError(f"{len(missing)} of the {len(named)} ids of {table_path} have no video in {folder}, the first is {missing[0]!r}")
    return [GenerationJob(name, prompt, video=there[name]) for name, prompt in named.items()]


def check_owned(jobs: Sequence[GenerationJob], output: Path, *, with_video: bool) -> None:
    """Raises: UserError where samples would replace files that this program did not make, or made for something else."""
    from mmaudio.media.sample_marks import SOUND, VIDEO, is_foreign_sample

    suffixes = [(job, suffix) for job in jobs for suffix in (SOUND, VIDEO) if suffix == SOUND or (with_video and job.source is not None)]
    files = [(file_of(output, job.name, suffix), job) for job, suffix in suffixes]
    found = [path for path, job in files if is_foreign_sample(path, job.name)]
    if found:
        raise foreign_files(output, found, "name another --output, give --replace, which moves them aside")


def check_outputs(jobs: Sequence[GenerationJob], output: Path) -> None:
    """Raises: UserError where samples would replace one another or be in each other's way, or replace a video they are made from."""
    twice = [name for name, count in Counter(job.name for job in jobs).items() if count > 1]
    if twice:
        raise UserError(f"there are several files named {twice[0]!r}, whose samples would replace one another; keep one of each name")
    check_distinct((job.name for job in jobs), (".flac", ".mp4"), besides=[SAMPLES_FILE])
    check_can_add_ids(output, ids_by_file((job.name for job in jobs), ".flac"))
    made = {at_end_of_links(file_of(output, job.name, ".mp4")) for job in jobs if job.source is not None}
    for job in jobs:
        if job.video is not None and at_end_of_links(job.video) in made:
            raise UserError(
                f"--output is {output}, where {job.video.name} would be replaced by its copy with new sound; name another folder"
            )
