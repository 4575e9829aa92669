"""What `mmaudio generate` is asked to make: the name, prompt and video of every sample, and that none replaces anything."""

import argparse
import re
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.commands.captions import read_captions

NamedPrompt = tuple[str, str, Path | None]  # name and prompt of a sample, and its video if there is one
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_NAME = 80  # characters of a prompt that make a file name


def _file_name(prompt: str) -> str:
    return re.sub(r"[^\w-]+", "_", prompt).strip("_")[:MAX_NAME] or "unnamed"


def jobs_asked_for(options: argparse.Namespace) -> list[NamedPrompt]:
    """Name, prompt and video of every sample asked for."""
    if options.video is None:
        if not options.prompt or options.captions:
            raise UserError("nothing to generate from: give --video FILE (or a folder, perhaps with --captions TABLE), or --prompt TEXT")
        return [(_file_name(options.prompt), options.prompt, None)]
    video = Path(options.video)
    if video.is_file():
        return [(video.stem, options.prompt, video)]
    if not video.is_dir():
        raise UserError(f"--video is {video}, which is neither a file nor a folder")
    if options.captions is not None:
        return _captioned(video, Path(options.captions))
    found = sorted(path for path in video.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise UserError(f"--video is {video}, a folder without a video ({', '.join(VIDEO_SUFFIXES)})")
    return [(path.stem, options.prompt, path) for path in found]


def _captioned(folder: Path, table_path: Path) -> list[NamedPrompt]:
    named = read_captions(table_path).items()
    jobs: list[NamedPrompt] = [(name, prompt, folder / f"{name}.mp4") for name, prompt in named]
    missing = [name for name, _, path in jobs if path is not None and not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of the {len(jobs)} ids of {table_path} have no .mp4 in {folder}, the first is {missing[0]!r}")
    return jobs


def check_outputs(jobs: list[NamedPrompt], output: Path) -> None:
    """Raises: UserError where samples would replace one another, or a video they are made from."""
    names = [name for name, _, _ in jobs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise UserError(f"--video holds several files named {twice[0]!r} that differ only in their suffix; keep one of each name")
    for name, _, video in jobs:
        if video is not None and (output / f"{name}.mp4").resolve() == video.resolve():
            raise UserError(f"--output is {output}, where {video.name} would be replaced by its copy with new sound; name another folder")
