"""Time and memory of the pretrained encoders, codec and vocoders, beside the least their operations can take."""

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.encoder_case import ARITHMETIC, Case, Row
from benchmarks.encoder_clips import NUM_CLIPS, Clips
from benchmarks.encoder_networks import CLIP_SPEC, clip_config
from benchmarks.limited import Ended, run_limited
from mmaudio.codec import MelVAE
from mmaudio.encoders import Synchformer
from mmaudio.encoders.clip import CONFIG_FILE, WEIGHT_FILES
from mmaudio.encoders.synchformer import UNUSED
from mmaudio.files.tensor_files import Shapes, shapes_of
from mmaudio.weights import extraction_needs, find_row

LIMIT_S = {False: 300.0, True: 600.0}  # of a case, eager or compiled
ROW_STEP = 7
COLUMNS = ("network", "per", "ms", "GFLOP", "floor, ms", "time / floor", "measured on", "peak, MB")
LEGEND = """\
Random weights, inference. Operations: torch's counter without computing; it counts products and convolutions alone, hence nothing of
the vocoders' activations. Floor: operations / rate of a matrix product that is timed in turns with the network. Of some transformers
fewer blocks run, which are alike; times are then scaled by operations. Peak: beyond weights and input, of what is measured at once.
"""
ON_A_GPU = f"""\
A GPU runs this in {", ".join(ARITHMETIC)}, eager and compiled, and reports of {NUM_CLIPS} clips at once through the backend: clips/s, the
peak beyond the weights, and the lowest cosine of features to those of fp32."""


def cells(row: Row) -> list[str]:
    """A row of the table."""
    first = [row.name, row.item]
    if row.seconds is None or row.rate is None:
        return [*first, row.failure or "nothing measured", f"{row.flops / 1e9:,.1f}", *[""] * (len(COLUMNS) - 4)]
    floor_s = row.flops / row.rate
    peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}"
    times = [f"{row.seconds * 1e3:,.4g}", f"{row.flops / 1e9:,.1f}", f"{floor_s * 1e3:,.4g}", f"{row.seconds / floor_s:.2f}"]
    return [*first, *times, row.amount, peak]


def whole_clip(rows: Sequence[Row], clips: Clips | None) -> list[str]:
    """What extracting a clip takes, in sentences: as the sum of its items, and through the backend. Nothing if an item was not measured."""
    needed = [row for row in rows if row.per_clip]
    if not needed or not all(row.seconds and row.rate for row in needed):
        return []
    flops = sum(row.per_clip * row.flops for row in needed)
    clip_s = sum(row.per_clip * row.seconds for row in needed if row.seconds)
    floor_s = sum(row.per_clip * row.flops / row.rate for row in needed if row.rate)
    share = ", ".join(f"{row.name} {row.per_clip * row.seconds / clip_s:.1%}" for row in needed if row.seconds)
    length = f"{CLIP_SPEC.duration_s:g} s at {CLIP_SPEC.mode}"
    sentences = [
        f"A clip of {length}, the sum of its items: {flops / 1e12:.1f} TFLOP, {clip_s:,.3g} s, {1 / clip_s:.3g} clips/s ({share}); "
        f"floor {floor_s:,.3g} s, {1 / floor_s:.3g} clips/s."
    ]
    if clips:
        peak = "" if clips.peak_bytes is None else f", peak {clips.peak_bytes / 1e9:.1f} GB beyond the weights"
        cosines = ", ".join(f"{name} {cosine:.6f}" for name, cosine in clips.cosines.items())
        speed = f"{clips.clips_per_s:.3g} clips/s, {clips.clips_per_s * floor_s:.0%} of the floor's"
        sentences.append(f"{NUM_CLIPS} clips at once through the backend: {speed}{peak}; lowest cosine to fp32: {cosines}.")
    return sentences


def print_results(ended: Ended) -> None:
    """What a case found, up to where it came."""
    found = [json.loads(line) for line in ended.lines]
    rows = [Row(**each["Row"]) for each in found if "Row" in each]
    clips = [Clips(**each["Clips"]) for each in found if "Clips" in each]
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(cells(row))} |")
    sentences = whole_clip(rows, clips[0] if clips else None) + ([f"The rest {ended.failure}."] if ended.failure else [])
    print("\n" + "\n".join(sentences) + "\n", flush=True)


def random_state(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of about the size of trained ones. A matrix's rows are windows of one line of numbers, so its file is small."""

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) < 2:
            return torch.ones(shape) if name.endswith((".weight", "_std")) else 0.1 * torch.randn(shape)
        rows, columns = shape[0], math.prod(shape[1:])
        line = torch.randn(ROW_STEP * rows + columns) * columns**-0.5
        return line.as_strided((rows, columns), (ROW_STEP, 1)).view(shape)

    return {name: tensor(name, shape) for name, shape in shapes.items()}


def write_weights(folder: Path) -> dict[str, str]:
    """Files as published, but for their numbers: of all that extraction at 16 kHz loads. Weight → place."""
    from open_clip.model import CLIP  # takes seconds

    config = clip_config()
    with torch.device("meta"):
        vae, synchformer, clip = MelVAE(CLIP_SPEC.mode), Synchformer(), CLIP(**config)
    places = {name: folder / name for name in extraction_needs(CLIP_SPEC.mode)}
    places["clip"].mkdir()
    torch.save(random_state(shapes_of(vae)), places[f"vae_{CLIP_SPEC.mode}"])
    torch.save(random_state(shapes_of(synchformer) | UNUSED), places["synchformer"])
    torch.save(random_state(shapes_of(clip)), places["clip"] / WEIGHT_FILES[0])
    (places["clip"] / CONFIG_FILE).write_text(json.dumps({"model_cfg": config}))
    return {name: str(path) for name, path in places.items()}


def weights_for_clips(folder: Path) -> dict[str, str]:
    """The published files where all of them are at their default places, else random ones written into a folder."""
    rows = [find_row(name) for name in extraction_needs(CLIP_SPEC.mode)]
    if all(path.is_file() for row in rows for path in row.targets(Path()).values()):
        print("Whole clips: the published weights.\n")
        return {row.name: str(row.path(Path()).absolute()) for row in rows}
    print("Whole clips: random weights, since not all of the published ones are at their default places.\n")
    return write_weights(folder)


def cases_for(device: torch.device, places: dict[str, str]) -> Iterable[Case]:
    """On a GPU the fastest first, so that what is not waited for is what matters least."""
    if device.type == "cpu":
        return [Case()]
    return [Case(arithmetic, compiled, places) for arithmetic in reversed(ARITHMETIC) for compiled in (False, True)]


def print_table(device: torch.device) -> None:
    """Every network, one case after another."""
    print(LEGEND)
    with tempfile.TemporaryDirectory() as folder:
        places = weights_for_clips(Path(folder)) if device.type == "cuda" else {}
        for case in cases_for(device, places):
            print(f"{case.arithmetic}, {'compiled' if case.compiled else 'eager'}\n")
            print_results(run_limited("benchmarks.encoder_case", [json.dumps(asdict(case))], LIMIT_S[case.compiled]))
    if device.type == "cpu":
        print(ON_A_GPU)
