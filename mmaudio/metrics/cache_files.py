"""Which features there are of a clip, and what a value of each file is: av-benchmark's table of cache files.

Widths may differ from the published models' (the formulas do not care), but all clips of one file have the same; what Synchformer's
comparison reads has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import SYNC_AUDIO_TOKENS_PER_SEGMENT, SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH

SUFFIX = ".pth"
WHOLE = ""  # the part of a value that is one tensor


@dataclass(frozen=True)
class Axis:
    """One axis of a feature: how long it is (None: any length), and whether it is as long for all clips of a file."""

    name: str
    length: int | None = None
    is_shared: bool = True


Axes = tuple[Axis, ...]
WIDTH = Axis("width")
EXAMPLES, SEGMENTS = Axis("examples", is_shared=False), Axis("segments", is_shared=False)


@dataclass(frozen=True)
class CacheFile:
    """What one clip's value is: part → axes; the one part "" is a tensor itself, others are the keys of a dictionary."""

    stem: str
    made_of: str  # sound, video or text
    parts: Mapping[str, Axes]
    spare_parts: Mapping[str, Axes] = field(default_factory=dict)  # no metric reads them; they may be missing

    @property
    def has_parts(self) -> bool:
        return WHOLE not in self.parts


def _row(stem: str, made_of: str, *axes: Axis) -> CacheFile:
    return CacheFile(stem, made_of, MappingProxyType({WHOLE: axes}))


_PANN = MappingProxyType({"2048": (WIDTH,), "logits": (WIDTH,)})
_ROWS = (
    CacheFile("pann_features", "sound", _PANN, MappingProxyType({"clipwise_output": (WIDTH,)})),
    _row("vggish_features", "sound", EXAMPLES, WIDTH),
    _row("passt_features_embed", "sound", WIDTH),
    _row("passt_logits", "sound", WIDTH),
    _row("imagebind_audio", "sound", WIDTH),
    _row("synchformer_audio", "sound", SEGMENTS, Axis("vectors", SYNC_AUDIO_TOKENS_PER_SEGMENT), Axis("width", SYNC_WIDTH)),
    _row("clap_laion_audio", "sound", WIDTH),
    _row("clap_ms_audio", "sound", WIDTH),
    _row("imagebind_video", "video", WIDTH),
    _row("synchformer_video", "video", SEGMENTS, Axis("vectors", SYNC_TOKENS_PER_SEGMENT), Axis("width", SYNC_WIDTH)),
    _row("clap_laion_text", "text", WIDTH),
    _row("clap_ms_text", "text", WIDTH),
)
CACHE_FILES: Mapping[str, CacheFile] = MappingProxyType({row.stem: row for row in _ROWS})


def cache_path(folder: Path, stem: str) -> Path:
    """Where a folder keeps features of a kind. Raises: UserError for a kind that there is none of."""
    if stem not in CACHE_FILES:
        raise UserError(f"no features are called {stem!r}{nearest(stem, CACHE_FILES)}; known are {', '.join(CACHE_FILES)}")
    return folder / (stem + SUFFIX)
