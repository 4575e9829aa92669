"""The mark of a sample, a comment in its sound and in its video: which files of a folder this program made, and for what."""

from pathlib import Path
from typing import Any

from mmaudio.files.ownership import Mark, is_in_the_way, mark_of, mark_text, parse_mark
from mmaudio.media.audio import MediaError, audio_comment
from mmaudio.media.mp4 import mp4_comment

KIND = "sample"
SOUND, VIDEO = ".flac", ".mp4"  # what samples are


def sample_mark(of: str, **facts: Any) -> str:
    """The comment of a sample.

    Args:
        of: what it belongs to: the set that it is sampled for, or, of a sample alone, its own name.
        facts: what else is to be known of it, such as the hash of what made it.
    """
    return mark_text(mark_of(KIND, of, **facts))


def read_sample_mark(path: Path) -> Mark | None:
    """The mark of a .flac or .mp4, from its header alone; None of anything else: another file, a folder, a link to nothing."""
    if path.suffix == VIDEO:
        return parse_mark(mp4_comment(path))
    try:
        return parse_mark(audio_comment(path))
    except MediaError:
        return None


def is_foreign_sample(path: Path, of: str) -> bool:
    """Whether something stands where a sample belongs that is no sample of this name, or this set; it may not be replaced."""
    return is_in_the_way(path, KIND, of, read_sample_mark)
