"""By how much sound and picture are apart, told by Synchformer's comparison head from the vectors of both (av-benchmark's DeSync)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmaudio.base.naming import named
from mmaudio.metrics.bands import Floats
from mmaudio.metrics.untellable import UntellableError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mmaudio.encoders import SyncHead

OFFSETS_PER_S = 5  # the head's logits stand for offsets 0.2 s apart, as many before as after
PAIRS_AT_ONCE = 16


def check_segments(ids: Sequence[str], video: Mapping[str, "Tensor"], audio: Mapping[str, "Tensor"]) -> None:
    """Raises: UntellableError naming clips that the head cannot judge: shorter than its 14 segments, or of unlike lengths."""
    from mmaudio.encoders.synchformer_head import HEAD_SEGMENTS

    unlike = [clip_id for clip_id in ids if len(video[clip_id]) != len(audio[clip_id])]
    if unlike:
        num_seen, num_heard = len(video[unlike[0]]), len(audio[unlike[0]])
        raise UntellableError(
            f"video and sound of {named(unlike)} have unlike lengths ({num_seen} and {num_heard} segments); make both over one duration"
        )
    short = [clip_id for clip_id in ids if len(video[clip_id]) < HEAD_SEGMENTS]
    if short:
        raise UntellableError(f"{named(short)} have fewer than {HEAD_SEGMENTS} segments (4.8 s); evaluate clips of at least 4.8 s")


def absolute_offsets(head: "SyncHead", video: Sequence["Tensor"], audio: Sequence["Tensor"], device: "torch.device | str") -> Floats:
    """The offset the head finds most likely over the first and over the last 4.8 s of each clip, without its sign.

    Args:
        head: on `device`.
        video: (segments, 8, 768) for each clip, at least 14 segments.
        audio: (segments, 6, 768) likewise.
        device: where pairs are compared, 16 at once.
    Returns: (clips, 2) in seconds, in [0, 2].
    """
    import torch

    from mmaudio.encoders.synchformer_head import HEAD_SEGMENTS, NUM_OFFSETS

    places = []
    with torch.inference_mode():
        for start in range(0, len(video), PAIRS_AT_ONCE):
            batch = slice(start, start + PAIRS_AT_ONCE)
            ends = []
            for window in (slice(None, HEAD_SEGMENTS), slice(-HEAD_SEGMENTS, None)):
                seen, heard = (torch.stack([clip[window] for clip in clips[batch]]).float().to(device) for clips in (video, audio))
                ends.append(head(seen, heard).argmax(dim=1))
            places.append(torch.stack(ends, dim=1).cpu().numpy())
    return np.abs(np.concatenate(places) - NUM_OFFSETS // 2) / OFFSETS_PER_S
