"""Small videos for the tests: plain frames whose grey level tells their number, and copies with other clocks."""

from fractions import Fraction

import av
import numpy as np

from mmaudio.media.mp4 import write_video

RATE_HZ = 16_000


def counting_frames(count, height=32, width=48):
    """Frame n is plain grey of level 4 n mod 256."""
    for index in range(count):
        yield np.full((height, width, 3), 4 * index % 256, np.uint8)


def clicks(duration_s, *times_s, rate_hz=RATE_HZ, level=0.8):
    wave = np.zeros(round(duration_s * rate_hz), np.float32)
    for time_s in times_s:
        start = round(time_s * rate_hz)
        wave[start : start + 100] = level
    return wave


def make_video(path, duration_s, fps=25, wave=None):
    write_video(path, counting_frames(round(duration_s * fps)), fps, wave, None if wave is None else RATE_HZ)
    return path


def turned(path):
    """The same .mp4, to be shown turned by a quarter: its track's matrix is rewritten in place."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 20] = b"".join((v << 16).to_bytes(4, "big", signed=True) for v in (0, 1, 0, -1, 0))
    path.write_bytes(content)
    return path


def write_pcm(path, channels, rate_hz=RATE_HZ, num_frames=40):
    """A video with 16-bit sound that comes back as it was: channels (channels, samples) in [-1, 1)."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 48, 32, "yuv420p"
        stream = container.add_stream("pcm_s16le", rate=rate_hz, layout=layout)
        for pixels in counting_frames(num_frames):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        interleaved = np.ascontiguousarray((channels.T * 32767).round().astype(np.int16).reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=layout)
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux([*stream.encode(None), *picture.encode(None)])
    return path


def copy_packets(source, target, shifts_s, keep=("video", "audio"), format_name="mp4"):
    """Copy streams with their time stamps moved by so many seconds per kind."""
    with av.open(str(source)) as reading, av.open(str(target), "w", format=format_name) as writing:
        kept = [stream for stream in reading.streams if stream.type in keep]
        copies = {stream.index: writing.add_stream_from_template(stream) for stream in kept}
        for packet in reading.demux(kept):
            if packet.dts is None:
                continue
            ticks = round(Fraction(shifts_s.get(packet.stream.type, 0)) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = copies[packet.stream.index]
            writing.mux(packet)
    return target


def picture_packets(path):
    """(presentation time, decoding time, bytes) of every picture packet."""
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, p.dts * p.time_base, bytes(p)) for p in container.demux(video=0) if p.dts is not None]


def levels(frames_u8):
    """The frame numbers (mod 64) that grey levels tell, from (frames, 3, height, width)."""
    return [round(frame.float().mean().item() / 4) for frame in frames_u8]
