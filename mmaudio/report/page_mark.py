"""The mark of a page: a line in its head that says that this program made it, with a hash of the page and of each of its media.

Only a folder that holds what was written, and nothing else, is replaced by a new page.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from html import escape, unescape
from pathlib import Path

from mmaudio.files.ownership import fits, foreign, mark_of, mark_text, parse_mark

INDEX, MEDIA = "index.html", "media"
_KIND = "page"
_HEAD = '<meta charset="utf-8">\n'
_LINE = '<meta name="generator" content="{}">\n'
_FOUND = re.compile(re.escape(_LINE).replace(r"\{\}", '([^"]*)'))
_NUM_DIGITS = 16  # of SHA-256


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_NUM_DIGITS]


def _owner(folder: Path) -> str:
    """What a page belongs to: its folder, by its own name, whichever link leads there."""
    return Path(os.path.realpath(folder)).name


def marked_page(page: str, media: Path, folder: Path) -> str:
    """The text of index.html with its mark.

    Args:
        media: the folder of the page's media, all of which are there.
        folder: where the page is to be.
    """
    files = {path.name: _digits(path.read_bytes()) for path in sorted(media.iterdir())}
    mark = mark_of(_KIND, _owner(folder), page=_digits(page.encode()), media=files)
    return page.replace(_HEAD, _HEAD + _LINE.format(escape(mark_text(mark))), 1)


def _known_media(folder: Path) -> Mapping[str, str] | None:
    """Name → hash of the media of a page that this program made for this folder; None where there is no such page, as it was made."""
    try:
        text = (folder / INDEX).read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    line = _FOUND.search(text)
    mark = parse_mark(unescape(line[1])) if line else None
    if line is None or mark is None or not fits(mark, _KIND, _owner(folder)):
        return None
    rest = text[: line.start()] + text[line.end() :]
    return mark.get("media") if mark.get("page") == _digits(rest.encode()) and isinstance(mark.get("media"), dict) else None


def foreign_in_page(folder: Path) -> Path | None:
    """What in a folder would be lost if a page were written there: the first file or folder that is not of an earlier page."""
    if not os.path.lexists(folder):
        return None
    if not folder.is_dir():
        return folder
    media = _known_media(folder)
    return next((path for path in sorted(folder.rglob("*")) if not _is_of_page(path.relative_to(folder), path, media)), None)


def _is_of_page(name: Path, path: Path, media: Mapping[str, str] | None) -> bool:
    if media is None or path.is_symlink():
        return False
    if path.is_dir():
        return name == Path(MEDIA)
    is_medium = name.parent == Path(MEDIA) and path.is_file()
    return name == Path(INDEX) or (is_medium and media.get(name.name) == _digits(path.read_bytes()))


def check_page(folder: Path) -> None:
    """Raises: UserError for a folder that holds anything but a page as this program wrote it there."""
    found = foreign_in_page(folder)
    if found is not None:
        raise foreign(folder, "name another --output, give --replace, which moves it aside", found=found)
