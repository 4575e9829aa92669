"""What a run's settings say of its sound: where the weights of its backend are, and how it samples."""

from typing import Any

from mmaudio.base.settings import BaseSettings
from mmaudio.batches import Batch
from mmaudio.generate.sampler import ConditionBatch, SampleSettings

_CKPT_KEYS = {  # weight → the setting that says where it is
    "vae_16k": "vae_16k_ckpt",
    "vae_44k": "vae_44k_ckpt",
    "vocoder_16k": "bigvgan_vocoder_ckpt",
    "vocoder_44k": "bigvgan_44k_ckpt",
    "synchformer": "synchformer_ckpt",
    "clip": "clip_ckpt",
}


def places_of(settings: BaseSettings) -> dict[str, str]:
    """Weight → where the settings say it is, for those they say anything of."""
    default = BaseSettings()
    return {weight: getattr(settings, key) for weight, key in _CKPT_KEYS.items() if getattr(settings, key) != getattr(default, key)}


def backend_keywords(settings: BaseSettings) -> dict[str, Any]:
    """Keywords of a `BackendPlan`: the pretrained weights come from where the run's settings say, if they say anything."""
    return {"places": places_of(settings) if settings.backend == "pretrained" else {}}


def sampling_of(settings: BaseSettings, *, amp: bool = False) -> SampleSettings:
    """How a run samples, in bf16 if `amp`."""
    sampling = settings.sampling
    return SampleSettings(sampling.num_steps, settings.cfg_strength, sampling.method, sampling.min_sigma, settings.seed, amp)


def conditions_of(batch: Batch) -> ConditionBatch:
    """What stored rows are sampled from."""
    clip, sync = batch.one_a_sample(batch.clip_features), batch.one_a_sample(batch.sync_features)
    return ConditionBatch(batch.ids, batch.text_features, clip, sync, None, batch.video_exist)
