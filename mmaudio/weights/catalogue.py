"""Every published weight file: what it is, where it comes from, how large, under which licence, and what needs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import MODES

WEIGHTS, EXT_WEIGHTS = "weights", "ext_weights"  # default folders, relative to the working directory


@dataclass(frozen=True)
class HubSource:
    """Files of a Hugging Face repository. The first of `repos` that is there counts: repositories get renamed."""

    repos: tuple[str, ...]
    folder: str = ""  # inside the repository
    revision: str = "main"

    def path(self, file: str) -> str:
        """The path of a file in the repository."""
        return f"{self.folder}/{file}" if self.folder else file


@dataclass(frozen=True)
class ReleaseSource:
    """Files of a GitHub release, below one URL."""

    url: str


@dataclass(frozen=True)
class WeightRow:
    """One thing to load: a file, or, with a `subfolder`, several files that lie in a folder of their own."""

    name: str
    what: str  # as it stands in a sentence
    needed_for: str  # as it stands in a sentence
    folder: str
    files: tuple[str, ...]
    source: HubSource | ReleaseSource
    size: str  # as published
    licence: str
    md5: str | None = None  # of the single file, where published
    subfolder: str = ""
    alternatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # other names a file may have, elsewhere

    def path(self, root: Path) -> Path:
        """Where it lies by default: the file, or the folder of its files."""
        return root / self.folder / (self.subfolder or self.files[0])

    def targets(self, root: Path) -> dict[str, Path]:
        """File name → where that file lies by default."""
        folder = root / self.folder / self.subfolder
        return {file: folder / file for file in self.files}

    def found_in(self, folder: Path) -> dict[str, Path]:
        """Those files of the row, under any of their names, that are in `folder`. File name → path."""
        names = {file: (file, *self.alternatives.get(file, ())) for file in self.files}
        there = {file: next((folder / name for name in names[file] if (folder / name).is_file()), None) for file in names}
        return {file: path for file, path in there.items() if path is not None}

    def told(self, found: str, remedy: str | None = None) -> str:
        """The sentence of a mistake: what was found, what needs the file, what to do (by default: fetch it)."""
        return f"{found}; {self.what} is needed for {self.needed_for}; {remedy or f'`{self.fetch_command}` gets it'}"

    @property
    def published_checksum(self) -> str | None:
        """ "md5:…" of the single file, where one was published."""
        return f"md5:{self.md5}" if self.md5 else None

    @property
    def fetch_command(self) -> str:
        return f"mmaudio weights fetch {self.name}"


_RELEASE = ReleaseSource("https://github.com/hkchengrex/MMAudio/releases/download/v0.1")
_GENERATORS = HubSource(("hkchengrex/MMAudio",), folder="weights")
_BIGVGAN_44K = "nvidia/bigvgan_v2_44khz_128band_512x"
_CLIP_REPOS = ("apple/DFN5B-CLIP-ViT-H-14-384", "apple/DFN5B-CLIP-ViT-H-14-378")  # the hub now lists it as -378
_NON_COMMERCIAL = "CC-BY-NC 4.0"
_PASST_RELEASE = ReleaseSource("https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset")
_ROBERTA = "FacebookAI/roberta-base"


def _generator(variant: str, size: str, md5: str) -> WeightRow:
    use = f"generating with {variant} and fine-tuning from it"
    return WeightRow(variant, f"the network {variant}", use, WEIGHTS, (f"mmaudio_{variant}.pth",), _GENERATORS, size, _NON_COMMERCIAL, md5)


def _released(
    name: str, file: str, what: str, needed_for: str, size: str, md5: str | None = None, licence: str = _NON_COMMERCIAL
) -> WeightRow:
    return WeightRow(name, what, needed_for, EXT_WEIGHTS, (file,), _RELEASE, size, licence, md5)


_ROWS = (
    _generator("small_16k", "601 MB", "af93cde404179f58e3919ac085b8033b"),
    _generator("small_44k", "601 MB", "babd74c884783d13701ea2820a5f5b6d"),
    _generator("medium_44k", "2.4 GB", "5a56b6665e45a1e65ada534defa903d0"),
    _generator("large_44k", "3.9 GB", "fed96c325a6785b85ce75ae1aafd2673"),
    _generator("large_44k_v2", "3.9 GB", "01ad4464f049b2d7efdaa4c1a59b8dfe"),
    _released(
        "vae_16k",
        "v1-16.pth",
        "the 16 kHz VAE",
        "extracting sound and generating in mode 16k",
        "655 MB",
        "69f56803f59a549a1a507c93859fd4d7",
    ),
    _released(
        "vae_44k",
        "v1-44.pth",
        "the 44.1 kHz VAE",
        "extracting sound and generating in mode 44k",
        "1.2 GB",
        "fab020275fa44c6589820ce025191600",
    ),
    _released(
        "vocoder_16k",
        "best_netG.pt",
        "the 16 kHz vocoder",
        "generating in mode 16k",
        "429 MB",
        "eeaf372a38a9c31c362120aba2dde292",
        "its own (BigVGAN)",
    ),
    WeightRow(
        "vocoder_44k",
        "the 44.1 kHz vocoder",
        "generating in mode 44k",
        EXT_WEIGHTS,
        ("config.json", "bigvgan_generator.pt"),
        HubSource((_BIGVGAN_44K,)),
        "490 MB",
        "its own (see its repository)",
        subfolder=_BIGVGAN_44K.split("/")[1],
    ),
    _released(
        "synchformer",
        "synchformer_state_dict.pth",
        "Synchformer",
        "extracting video, generating from it, and evaluating with DeSync",
        "907 MB",
        "5b2f5594b0730f70e41e549b7c94390c",
    ),
    WeightRow(
        "clip",
        "CLIP",
        "extracting captions and video and generating from them",
        EXT_WEIGHTS,
        ("open_clip_config.json", "open_clip_pytorch_model.bin"),
        HubSource(_CLIP_REPOS),
        "3.9 GB",
        "its own (see its repository)",
        subfolder=_CLIP_REPOS[0].split("/")[1],
        alternatives={"open_clip_pytorch_model.bin": ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")},
    ),
    _released(
        "empty_string",
        "empty_string.pth",
        "the null text feature",
        "training on stores that do not hold it themselves",
        "0.3 MB",
    ),
    WeightRow(
        "passt",
        "PaSST",
        "evaluating with FD-PASST, KL-PASST and ISC-PASST",
        EXT_WEIGHTS,
        ("passt-s-f128-p16-s10-ap.476-swa.pt",),
        _PASST_RELEASE,
        "345 MB",
        "Apache 2.0",
    ),
    WeightRow(
        "clap_laion",
        "LAION-CLAP",
        "evaluating with LAION-CLAP-Score",
        EXT_WEIGHTS,
        ("music_speech_audioset_epoch_15_esc_89.98.pt",),
        HubSource(("lukewys/laion_clap",)),
        "2.4 GB",
        "its own (see its repository)",
    ),
    WeightRow(
        "roberta_tokenizer",
        "RoBERTa's tokenizer",
        "reading captions for LAION-CLAP-Score",
        EXT_WEIGHTS,
        ("vocab.json", "merges.txt"),
        HubSource((_ROBERTA,)),
        "1.4 MB",
        "MIT",
        subfolder=_ROBERTA.split("/")[1],
    ),
)
CATALOGUE: dict[str, WeightRow] = {row.name: row for row in _ROWS}
VARIANTS = tuple(row.name for row in _ROWS if row.folder == WEIGHTS)


def find_row(name: str) -> WeightRow:
    """The row of a name. Raises: UserError with the nearest name for an unknown one."""
    if name not in CATALOGUE:
        raise UserError(f"no weights named {name!r}{nearest(name, CATALOGUE)}; known are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def extraction_needs(mode: str) -> tuple[str, ...]:
    """Names of what extracting sound, video and captions in a mode loads."""
    return (f"vae_{mode}", "synchformer", "clip")


def generation_needs(variant: str) -> tuple[str, ...]:
    """Names of what generating sound with a published variant loads."""
    mode = next(mode for mode in MODES if mode in variant.split("_"))
    return (variant, f"vae_{mode}", f"vocoder_{mode}", "synchformer", "clip")
