"""The lines of `mmaudio generate --jsonl`: one JSON object a sample, each key optional."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.commands.generate_options import check_duration, check_seed
from mmaudio.generate.jobs import Job

KEYS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("video", "image", "prompt", "negative_prompt", "name"), (str,)),
    "duration": (int, float),
    "seed": (int,),
}
WORDS = {str: "a text", int: "a whole number", float: "a number"}
LONGEST_NAME_BYTES = 150  # with suffix and what a file is called while it is written, still a name that disks take
MOST_TOLD = 20


def read_lines(path: Path, prompt: str) -> list[Job]:
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
    problems, jobs = Problems(), list[Job]()
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


def _job(line: str, where: str, folder: Path, prompt: str) -> Job:
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
    return Job(name, prompt, files.get("video"), files.get("image"), told.get("negative_prompt"), duration_s, told.get("seed"))


def _object(line: str, where: str) -> Mapping[str, Any]:
    """What a line says; a key whose value is null says nothing. Raises: UserError."""
    try:
        told = json.loads(line)
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
