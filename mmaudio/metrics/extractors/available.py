"""Which feature extractors there are: what each reads, which cache files it gives, and which package and weights it takes."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import Problems
from mmaudio.base.specs import MIN_DURATION_S
from mmaudio.weights import check_place

if TYPE_CHECKING:
    import torch
    from torch import Tensor


SOUND, VIDEO, TEXT = "sound", "video", "text"
Encode = Callable[[Sequence[Any]], "Mapping[str, Tensor]"]  # n of what `read` gave → stem: (n, …)


@dataclass(frozen=True)
class FeatureExtractor:
    """One network with what comes before it. Its module has a function that reads and one that loads."""

    name: str
    kind: str  # SOUND, VIDEO or TEXT: what it takes
    stems: tuple[str, ...]  # the cache files it gives
    weights: tuple[str, ...]  # rows of the catalogue
    module: str
    functions: tuple[str, str]  # of the module: what reads a source, and what loads the network
    package: str | None = None  # beyond what the base system needs …
    extra: str | None = None  # … and the extra of ours that brings it
    min_duration_s: float = 0.0
    version: int = 1  # raised whenever its features come to mean something else

    def read(self, source: Path | str, duration_s: float) -> Any:
        """What the network is given of a file, or of a caption. Raises: MediaError with the reason why a file cannot be judged."""
        return self._part(self.functions[0])(source, duration_s)

    def load(self, places: Mapping[str, str | Path], device: "torch.device") -> Encode:
        """The network on a device: a list of what `read` gave → stem: features (n, …) float32 there.

        Args:
            places: weight name → where it is, as `mmaudio.weights.locate` takes it; those not named are at their default place.

        Raises: UserError for a package or weights that are missing, and for weights of another network.
        """
        encode: Encode = self._part(self.functions[1])(places, device)
        return encode

    def _part(self, function: str) -> Callable[..., Any]:
        part: Callable[..., Any] = getattr(importlib.import_module(f"mmaudio.metrics.extractors.{self.module}"), function)
        return part


_EXTRA = "evaluate"
_SYNCHFORMER = ("synchformer",)
_PASST = ("read_passt_sound", "load_passt_sound")
_CLAP_SOUND, _CLAP_TEXT = ("read_clap_sound", "load_clap_sound"), ("read_clap_text", "load_clap_text")
_SYNC_SOUND, _SYNC_VIDEO = ("read_sync_sound", "load_sync_sound"), ("read_sync_video", "load_sync_video")
_ROWS = (
    FeatureExtractor("passt", SOUND, ("passt_features_embed", "passt_logits"), ("passt",), "passt", _PASST, "hear21passt", _EXTRA),
    FeatureExtractor("clap_laion_audio", SOUND, ("clap_laion_audio",), ("clap_laion",), "clap", _CLAP_SOUND, "transformers", _EXTRA),
    FeatureExtractor(
        "clap_laion_text", TEXT, ("clap_laion_text",), ("clap_laion", "roberta_tokenizer"), "clap", _CLAP_TEXT, "transformers", _EXTRA
    ),
    FeatureExtractor("synchformer_audio", SOUND, ("synchformer_audio",), _SYNCHFORMER, "sync", _SYNC_SOUND, min_duration_s=MIN_DURATION_S),
    FeatureExtractor("synchformer_video", VIDEO, ("synchformer_video",), _SYNCHFORMER, "sync", _SYNC_VIDEO, min_duration_s=MIN_DURATION_S),
)
EXTRACTORS: Mapping[str, FeatureExtractor] = MappingProxyType({row.name: row for row in _ROWS})


def extractors_for(stems: Iterable[str]) -> tuple[tuple[FeatureExtractor, ...], tuple[str, ...]]:
    """The extractors that give cache files, in the table's order, and those of `stems` that no extractor here gives, sorted."""
    wanted = set(stems)
    chosen = tuple(extractor for extractor in EXTRACTORS.values() if wanted & set(extractor.stems))
    return chosen, tuple(sorted(wanted - {stem for extractor in chosen for stem in extractor.stems}))


def missing_package(extractor: FeatureExtractor) -> str | None:
    """The sentence for an extractor whose package is not installed; None where nothing is missing."""
    if extractor.package is None or find_spec(extractor.package) is not None:
        return None
    needs = f"the judge {extractor.name} needs the package {extractor.package}, which is not installed"
    return f"{needs}; `pip install 'mmaudio[{extractor.extra}]'`"


def weights_needed(extractors: Iterable[FeatureExtractor]) -> tuple[str, ...]:
    """Names of the weights that extractors load, each once."""
    return tuple(dict.fromkeys(name for extractor in extractors for name in extractor.weights))


def check_requirements(extractors: Iterable[FeatureExtractor], places: Mapping[str, str | Path], duration_s: float) -> None:
    """Raises: UserError with a sentence for each package that is missing, each wrong place, and sounds too short to be judged."""
    problems, extractors = Problems(), tuple(extractors)
    for extractor in extractors:
        if sentence := missing_package(extractor):
            problems.add(sentence)
        if duration_s < extractor.min_duration_s:
            problems.add(f"the judge {extractor.name} takes at least {extractor.min_duration_s} s; the duration is {duration_s:g} s")
    for name in weights_needed(extractors):
        problems.check(partial(check_place, name, places.get(name)))
    problems.raise_any()
