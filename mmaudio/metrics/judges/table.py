"""Which judges there are: what each is given, which cache files it gives, and which package and weights it takes.

Looking at the table imports neither torch nor the packages of judges. PANNs, VGGish, ImageBind and MS-CLAP have no judge here: their
features are read from caches, or made by av-bench itself.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmaudio.base.specs import MIN_DURATION_S

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SOUND, VIDEO, TEXT = "sound", "video", "text"
Encode = Callable[[Sequence[Any]], "Mapping[str, Tensor]"]  # n of what `read` gave → stem: (n, …)


@dataclass(frozen=True)
class Judge:
    """One network with what comes before it. Its module has the functions `read` and `load`."""

    name: str
    kind: str  # SOUND, VIDEO or TEXT: what it judges
    stems: tuple[str, ...]  # the cache files it gives
    weights: tuple[str, ...]  # rows of the catalogue
    module: str
    package: str | None = None  # beyond what the base system needs …
    extra: str | None = None  # … and the extra of ours that brings it
    min_duration_s: float = 0.0
    version: int = 1  # raised whenever its features come to mean something else

    def read(self, source: Path | str, duration_s: float) -> Any:
        """What the network is given of a file, or of a caption. Raises: MediaError with the reason why a file cannot be judged."""
        return self._part("read")(source, duration_s)

    def load(self, places: Mapping[str, str | Path], device: "torch.device") -> Encode:
        """The network on a device: a list of what `read` gave → stem: features (n, …) float32 there.

        Args:
            places: weight name → where it is, as `mmaudio.weights.locate` takes it; those not named are at their default place.

        Raises: UserError for a package or weights that are missing, and for weights of another network.
        """
        encode: Encode = self._part("load")(places, device)
        return encode

    def _part(self, function: str) -> Callable[..., Any]:
        part: Callable[..., Any] = getattr(importlib.import_module(f"mmaudio.metrics.judges.{self.module}"), function)
        return part


_EXTRA = "evaluate"
_SYNCHFORMER = ("synchformer",)
_ROWS = (
    Judge("passt", SOUND, ("passt_features_embed", "passt_logits"), ("passt",), "passt", "hear21passt", _EXTRA),
    Judge("clap_laion_audio", SOUND, ("clap_laion_audio",), ("clap_laion",), "clap_sound", "transformers", _EXTRA),
    Judge("clap_laion_text", TEXT, ("clap_laion_text",), ("clap_laion", "roberta_tokenizer"), "clap_text", "transformers", _EXTRA),
    Judge(
        "synchformer_audio",
        SOUND,
        ("synchformer_audio",),
        _SYNCHFORMER,
        "synchformer_sound",
        min_duration_s=MIN_DURATION_S,
    ),
    Judge("synchformer_video", VIDEO, ("synchformer_video",), _SYNCHFORMER, "synchformer_video", min_duration_s=MIN_DURATION_S),
)
JUDGES: Mapping[str, Judge] = MappingProxyType({row.name: row for row in _ROWS})


def judges_for(stems: Iterable[str]) -> tuple[tuple[Judge, ...], tuple[str, ...]]:
    """The judges that give cache files, in the table's order, and those of `stems` that no judge here gives, sorted."""
    wanted = set(stems)
    chosen = tuple(judge for judge in JUDGES.values() if wanted & set(judge.stems))
    return chosen, tuple(sorted(wanted - {stem for judge in chosen for stem in judge.stems}))
