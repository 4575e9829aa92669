"""From a batch of stored rows to what the objective is computed on: who is told what, and the cast on the device."""

import torch

from mmaudio.base.draws import Draws
from mmaudio.batches import Batch
from mmaudio.flow.loss import FlowBatch
from mmaudio.flow.nulls import NullSettings, choose_told, draw_nulls


def flow_batch(batch: Batch, chance: Draws, nulls: NullSettings, device: torch.device, dtype: torch.dtype = torch.float32) -> FlowBatch:
    """What the objective needs of a batch, on the device. Who is told what is decided on the CPU, where nothing has to wait.

    Args:
        batch: of which only samples with video have rows of clip and sync features.
        chance: of the rows of the batch, on the CPU.
        dtype: of the conditions; latents, which define the target, are float32.
    """
    told = choose_told(batch.video_exist, batch.text_exist, draw_nulls(chance), nulls).among_videos(batch.video_exist)
    latents = {name: getattr(batch, name).to(device, torch.float32) for name in ("a_mean", "a_std")}
    conditions = {name: getattr(batch, name).to(device, dtype) for name in ("clip_features", "sync_features", "text_features")}
    return FlowBatch(**latents, **conditions, told=told.to(device))
