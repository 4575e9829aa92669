"""Sets of clips: published ones, tables, stored rows.

The published sets are read as their distributors describe them: AudioCaps (.csv with name and caption), MovieGen (a .jsonl for each
video) and VGGSound (the official .csv without a header). Any folder with a table of id and caption is a set, too.
"""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from mmaudio.base.errors import UserError, named
from mmaudio.batches import Mixture
from mmaudio.clips.clip_tables import read_captions
from mmaudio.files.atomic import parse_json, text_hash
from mmaudio.files.file_names import check_ids
from mmaudio.media.suffixes import SOUND_SUFFIXES, VIDEO_SUFFIXES, files_by_id
from mmaudio.settings.data_sources import LISTS, EvalSetSettings, SourceSettings
from mmaudio.settings.schema import BaseSettings

log = logging.getLogger(__name__)
PUBLISHED = {"audiocaps_full": "AudioCaps_full", "audiocaps": "AudioCaps", "moviegen": "MovieGen", "vggsound": "VGGSound"}  # in this order


@dataclass(frozen=True)
class EvalSet:
    """What is evaluated on, in order. `rows` are stored features; without them, videos and captions are encoded.

    `left_out` are clips of the set that cannot be sampled, with the reason of each; `absent` those that a distributor's table names
    and that are no part of it here, for their videos are not to be had any more.
    """

    name: str
    captions: Mapping[str, str]
    videos: Mapping[str, Path] = field(default_factory=dict)
    sounds: Mapping[str, Path] = field(default_factory=dict)
    reference_cache: Path | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    rows: Mixture | None = None

    def first(self, num: int | None) -> "EvalSet":
        """The first so many clips alone; None: all of them."""
        return self if num is None else replace(self, captions=dict(islice(self.captions.items(), num)), left_out={})

    def with_sounds(self, folder: Path) -> "EvalSet":
        """The same clips, whose real sounds are those of a folder. Raises: UserError where it has none of them."""
        sounds = files_by_id(folder, self.captions, SOUND_SUFFIXES)
        if not sounds:
            raise UserError(f"reference is {folder}, which holds no sound or video of any of the {len(self.captions)} ids of {self.name}")
        return replace(self, sounds=sounds)


def captions_hash(captions: Mapping[str, str]) -> str:
    """Changes with the ids of a set and with what they are captioned, not with their order."""
    return text_hash([text for pair in sorted(captions.items()) for text in pair])


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields, all of them text."""
    if not path.is_file():
        raise UserError(f"no table at {path}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for fields in reader:
            if fields:
                yield reader.line_num, fields


def _add(captions: dict[str, str], name: str, caption: str, where: str) -> None:
    if name in captions:
        raise UserError(f"{where} names {name!r} a second time; a set has each clip once")
    captions[name] = caption


def _read_audiocaps(given: EvalSetSettings) -> tuple[dict[str, str], dict[str, str]]:
    path, captions = Path(str(given.csv_path)), dict[str, str]()
    rows = _csv_rows(path)
    _, header = next(rows, (0, []))
    if not {"name", "caption"} <= set(header):
        raise UserError(f"{path} has the columns {', '.join(header) or 'of nothing'}; want name and caption among them")
    for line, fields in rows:
        if len(fields) != len(header):
            raise UserError(f"line {line} of {path} has {len(fields)} fields; want {len(header)}, as its header has")
        row = dict(zip(header, fields, strict=True))
        _add(captions, row["name"], row["caption"], f"line {line} of {path}")
    check_ids(captions, str(path))
    return captions, {}


def _read_vggsound(given: EvalSetSettings) -> tuple[dict[str, str], dict[str, str]]:
    path, captions, left_out = Path(str(given.csv_path)), dict[str, str](), dict[str, str]()
    for line, fields in _csv_rows(path):
        if len(fields) != 4 or not fields[1].strip().isdigit():
            raise UserError(f"line {line} of {path} is {','.join(fields)!r}; want YouTube id, start second, label, split, and no header")
        if fields[3].strip() == "test":
            _add(captions, f"{fields[0]}_{int(fields[1]):06d}", fields[2], f"line {line} of {path}")
    check_ids(captions, str(path))
    return captions, left_out


def _read_moviegen(given: EvalSetSettings) -> tuple[dict[str, str], dict[str, str]]:
    folder, captions, left_out = Path(str(given.jsonl_path)), dict[str, str](), dict[str, str]()
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}")
    for path in sorted(folder.glob("*.jsonl")):
        try:
            captions[path.stem] = str(parse_json(path.read_text(encoding="utf-8").splitlines()[0])["audio_prompt"])
        except (ValueError, KeyError, IndexError, TypeError):
            left_out[path.stem] = f"{path} holds no JSON object with audio_prompt"
    videos = [path for path in Path(str(given.video_path)).glob("*") if path.suffix.lower() in VIDEO_SUFFIXES]
    left_out |= {path.stem: f"no {path.stem}.jsonl in {folder}" for path in videos if path.stem not in {**captions, **left_out}}
    return captions, left_out


def _read_table(given: EvalSetSettings) -> tuple[dict[str, str], dict[str, str]]:
    return read_captions(Path(str(given.tsv))), {}


_READERS = {
    "audiocaps": ("csv_path", (), _read_audiocaps),
    "vggsound": ("csv_path", ("video_path",), _read_vggsound),
    "moviegen": ("jsonl_path", ("video_path",), _read_moviegen),
    "table": ("tsv", (), _read_table),
}


def read_set(name: str, entry: str, given: EvalSetSettings) -> EvalSet:
    """The set that an entry of `eval_data` describes, called `name`.

    Clips whose video is missing are left out where the set is of videos, and counted. Order: as the table has it for audiocaps and
    table, by id for the others.
    Raises: UserError for what is missing or cannot be read, and for a set with no clip left.
    """
    table, needs, read = _READERS[given.kind]
    for key in (table, *needs):
        if getattr(given, key) is None:
            raise UserError(f"eval_data.{entry} is of kind {given.kind} and has no {key}; give eval_data.{entry}.{key}=PATH")
    captions, left_out = read(given)
    videos = files_by_id(Path(given.video_path), captions, VIDEO_SUFFIXES) if given.video_path else {}
    absent = tuple(name for name in captions if name not in videos) if given.kind == "vggsound" else ()
    if absent:
        log.info(
            "%d of the %d clips of %s have no video in %s and are no part of the set", len(absent), len(captions), name, given.video_path
        )
        captions = {name: caption for name, caption in captions.items() if name in videos}
    if given.video_path:
        left_out |= {name: f"no video of it in {given.video_path}" for name in captions if name not in videos}
    if given.kind in ("vggsound", "moviegen"):
        captions = dict(sorted(captions.items()))
    kept = {name: caption for name, caption in captions.items() if name not in left_out}
    if not kept:
        reason = f"; {named(sorted(left_out))}: {next(iter(left_out.values()))}" if left_out else ""
        where = f"; no video in {given.video_path} is of one of its {len(absent)} clips" if absent else ""
        raise UserError(f"the set {name} has no clip to sample{reason}{where}")
    sounds = videos if given.audio_path is None else _sounds(Path(given.audio_path), kept)
    return EvalSet(name, kept, videos, sounds, Path(given.gt_cache) if given.gt_cache else None, left_out, absent)


def _sounds(folder: Path, captions: Mapping[str, str]) -> dict[str, Path]:
    """The real sounds, where there are any: captions alone can be sampled, too."""
    return files_by_id(folder, captions, SOUND_SUFFIXES) if folder.is_dir() else {}


def entry_of(dataset: str, entries: Mapping[str, EvalSetSettings]) -> str | None:
    """The entry of `eval_data` that a name chooses: its own, or by the beginning of a published one; None where neither is there."""
    if dataset in entries:
        return dataset
    published = next((entry for prefix, entry in PUBLISHED.items() if dataset.lower().startswith(prefix)), None)
    return published if published in entries else None


# ---- The stores of a run as sets: sampled from their features, scored against the real sounds of their rows


def sources_named(settings: BaseSettings, name: str) -> list[str]:
    """The sources of a run's data that a name means: those of a list (`test`), or one itself. Empty where it means none."""
    if name in LISTS:
        return list(getattr(settings.data, name))
    return [name] if name in settings.data.sources and settings.data.sources[name].memmap_dir else []


def tag_of(settings: BaseSettings, name: str) -> str:
    """What the results of these sources are called: the tag of the only one, or the name that chose them."""
    chosen = sources_named(settings, name)
    return (settings.data.sources[chosen[0]].tag if len(chosen) == 1 else None) or name


def store_set(settings: BaseSettings, name: str, rows: Mixture) -> EvalSet:
    """The rows of a run's sources, which are open already, each id once.

    Their media are those of the sources' `root`. Raises: UserError for an id that is there twice.
    """
    given = [settings.data.sources[source.name] for source in rows.sources]
    captions: dict[str, str] = {}
    for source in rows.sources:
        twice = sorted(captions.keys() & set(source.store.ids)) or _repeated(source.store.ids)
        if twice:
            raise UserError(f"{named(twice)} of {source.name} is there twice; samples are named by id, so a set has each id once")
        captions |= zip(source.store.ids, source.store.captions, strict=True)
    caches = [source.gt_cache for source in given if source.gt_cache]
    cache = Path(caches[0]) if len(given) == 1 and caches else None
    media = partial(_media, given, captions)
    return EvalSet(tag_of(settings, name), captions, media(VIDEO_SUFFIXES), media(SOUND_SUFFIXES), cache, rows=rows)


def _repeated(ids: Sequence[str]) -> list[str]:
    seen, twice = set[str](), set[str]()
    for each in ids:
        (twice if each in seen else seen).add(each)
    return sorted(twice)


def _media(given: Sequence[SourceSettings], captions: Mapping[str, str], suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in _roots(given):
        found |= files_by_id(root, captions, suffixes)
    return found


def _roots(given: Sequence[SourceSettings]) -> Iterator[Path]:
    yield from dict.fromkeys(Path(source.root) for source in given if source.root)
