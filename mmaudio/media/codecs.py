"""What the FFmpeg that PyAV brings along can read and write of what this system meets."""

import av
import av.codec.codec

READ = ("h264", "hevc", "mpeg4", "vp8", "vp9", "aac", "mp3", "flac", "opus", "vorbis", "pcm_s16le")
WRITTEN = ("libx264", "aac")  # of the .mp4 files that are made


def missing_codecs() -> list[str]:
    """Those that are not there, as words of a sentence: `h264 (to read)`."""
    return [
        f"{name} (to {'read' if mode == 'r' else 'write'})"
        for mode, names in (("r", READ), ("w", WRITTEN))
        for name in names
        if not _is_there(name, mode)
    ]


def _is_there(name: str, mode: str) -> bool:
    try:
        av.Codec(name, "r" if mode == "r" else "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
