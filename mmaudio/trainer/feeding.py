"""From a batch of stored rows to what the objective is computed on: which of them are told to whom."""

from dataclasses import replace

import torch

from mmaudio.base.draws import Draws
from mmaudio.batches import Batch
from mmaudio.flow.loss import FlowBatch
from mmaudio.flow.nulls import NullSettings, choose_told, draw_nulls


def flow_batch(batch: Batch, chance: Draws, nulls: NullSettings, device: torch.device) -> FlowBatch:
    """What the objective needs of a batch, on the device. Who is told what is decided on the CPU, where nothing has to wait.

    Conditions stay as they are stored: the network widens those that are told when it takes them. Latents define the target
    and are float32.

    Args:
        batch: of which only samples with video have rows of clip and sync features.
        chance: of the rows of the batch, on the CPU.
    """
    told = choose_told(batch.video_exist, batch.text_exist, draw_nulls(chance), nulls).among_videos(batch.video_exist).to(device)
    captions = replace(told.text, rows=batch.text_rows.index_select(0, told.text.rows))
    return FlowBatch(
        a_mean=batch.a_mean.to(device, torch.float32),
        a_std=batch.a_std.to(device, torch.float32),
        clip_features=batch.clip_features.to(device),
        sync_features=batch.sync_features.to(device),
        text_features=batch.text_table.to(device),
        told=replace(told, text=captions),
    )
