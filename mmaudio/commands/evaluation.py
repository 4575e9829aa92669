"""What evaluate.py does: its words, where the weights of its backend are, and the share of rows each process samples."""

from contextlib import closing
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, nearest
from mmaudio.base.ranks import Ranks, wait_for_all
from mmaudio.base.settings import TrainSettings
from mmaudio.batches import Batch, Mixture, validation_batches
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import ConditionBatch, SampleSettings
from mmaudio.generate.samples import write_sounds

_CKPT_KEYS = {  # weight → the setting that says where it is
    "vae_16k": "vae_16k_ckpt",
    "vae_44k": "vae_44k_ckpt",
    "vocoder_16k": "bigvgan_vocoder_ckpt",
    "vocoder_44k": "bigvgan_44k_ckpt",
    "synchformer": "synchformer_ckpt",
    "clip": "clip_ckpt",
}
DEFAULTS = {"exp_id": "", "reference": "", "device": "cuda", "weights": "", "batch_size": "16", "output_name": ""}


def read_words(words: list[str], problems: Problems) -> dict[str, str]:
    """The command line's key=value words, as text."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    for key in given.keys() - DEFAULTS.keys():
        problems.add(f"unknown key {key!r}{nearest(key, DEFAULTS)}; known are {', '.join(DEFAULTS)}")
    asked = {**DEFAULTS, **given}
    if not asked["exp_id"]:
        problems.add("which run? give exp_id=NAME, the name of a folder in output/")
    if not asked["batch_size"].isdigit() or int(asked["batch_size"]) < 1:
        problems.add(f"batch_size is {asked['batch_size']!r}; want a whole number above 0")
    if asked["output_name"] != Path(asked["output_name"]).name:
        problems.add(f"output_name is {asked['output_name']!r}; want a name without slashes")
    return asked


def backend_keywords(settings: TrainSettings) -> dict[str, Any]:
    """Keywords of a `BackendPlan`: the pretrained weights come from where the run's settings say, if they say anything."""
    default = TrainSettings()
    asked = {weight: getattr(settings, key) for weight, key in _CKPT_KEYS.items() if getattr(settings, key) != getattr(default, key)}
    return {"places": asked if settings.backend == "pretrained" else {}}


def sampling_of(settings: TrainSettings) -> SampleSettings:
    """How a run samples, as its settings say."""
    sampling = settings.sampling
    return SampleSettings(sampling.num_steps, settings.cfg_strength, sampling.method, sampling.min_sigma, settings.seed)


def conditions_of(batch: Batch) -> ConditionBatch:
    """What stored rows are sampled from."""
    clip, sync = batch.one_a_sample(batch.clip_features), batch.one_a_sample(batch.sync_features)
    return ConditionBatch(batch.ids, batch.text_features, clip, sync, None, batch.video_exist)


def sample_rows(model: Model, rows: Mixture, settings: TrainSettings, output_dir: Path, batch_size: int, ranks: Ranks) -> None:
    """Collective. Sample this rank's share of the rows."""
    how = sampling_of(settings)
    with closing(validation_batches(rows, batch_size=batch_size, rank=ranks.rank, world_size=ranks.world_size)) as batches:
        for batch in batches:
            write_sounds(model, conditions_of(batch), how, output_dir)
    wait_for_all()
