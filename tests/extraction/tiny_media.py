"""A few videos of a second, and the store that an extraction makes of them."""

from mmaudio.base.specs import AudioSpec
from mmaudio.features import build_backend
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.media.video import read_video
from mmaudio.store import Block, Store, table_path, write_store

SPEC = AudioSpec("16k", 1.0)
CAPTIONS = {"00008004": "1e5", "1e5": "None", "None": "NA", "é🎈": "a ball", "NA": "rain", "e": "1e5"}


def write_videos(folder):
    """The folder, with {id}.mp4 for each id."""
    for index, name in enumerate(CAPTIONS):
        bounces = draw_bounces(11, "tiny", index, 1.2)
        write_video(folder / f"{name}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 22_050), 22_050)
    return folder


def store_of_videos(media, folder, name="s", layout="compact", **options):
    """Write the store of these videos, by the lite backend, and open it."""
    backend = build_backend("lite", "16k", duration_s=SPEC.duration_s)

    def blocks():
        for row_id, caption in CAPTIONS.items():
            found = read_video(media / f"{row_id}.mp4", SPEC, with_sound=True)
            columns = dict(zip(("mean", "std"), backend.encode_audio(found.wave[None]), strict=True))
            columns |= {
                "clip_features": backend.encode_clip(found.clip_u8[None]),
                "sync_features": backend.encode_sync(found.sync_u8[None]),
            }
            yield Block([row_id], [caption], columns, {caption: backend.encode_text([caption])[0]})

    null = backend.encode_text([""])[0]
    index = list(CAPTIONS.items())
    settings = {"spec": SPEC, "backend": "lite", "layout": layout, "null_text": null, **options}
    write_store(folder, name, kind="video", index=index, blocks=blocks(), **settings)
    return Store.open(table_path(folder / name), folder / name)
