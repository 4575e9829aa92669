"""Cost of turning a video file into lite features, beside the floor: only decoding its frames."""

import tempfile
import time
from pathlib import Path

import av
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.features import build_backend
from mmaudio.media.example import FPS, draw_bounces, render_frames, render_sound
from mmaudio.media.video import read_video
from mmaudio.media.write import write_video

DURATION_S = 8.0


def _timed(call) -> float:  # type: ignore[no-untyped-def]
    began = time.process_time()
    call()
    return time.process_time() - began


def _decode(path: Path) -> None:
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def print_table() -> None:
    """CPU seconds for one 8 s clip, one thread."""
    torch.set_num_threads(1)
    spec, backend = AudioSpec("16k", DURATION_S), build_backend("lite", "16k", duration_s=DURATION_S)
    with tempfile.TemporaryDirectory() as folder:
        path, bounces = Path(folder) / "clip.mp4", draw_bounces(1, "bench", 0, DURATION_S + 0.2)
        write_video(path, iter(render_frames(bounces)), FPS, render_sound(bounces, 44_100), 44_100)
        media = read_video(path, spec, with_sound=True)
        assert media.wave is not None
        backend.encode_text([""])  # loads the tokenizer, once a process
        rows = {
            "decode alone (floor)": _timed(lambda: _decode(path)),
            "read_video": _timed(lambda: read_video(path, spec, with_sound=True)),
            "lite scene features": _timed(lambda: backend.encode_clip(media.clip_u8[None])),
            "lite sync features": _timed(lambda: backend.encode_sync(media.sync_u8[None])),
            "lite latents": _timed(lambda: backend.encode_audio(media.wave[None])),
            "lite text": _timed(lambda: backend.encode_text([bounces.ball.caption])),
        }
    print("one 8 s clip, 128 x 128, 25 fps: CPU seconds, one thread\n")
    print("| what | s |\n|---|---|")
    for name, spent_s in rows.items():
        print(f"| {name} | {spent_s:.3f} |")
