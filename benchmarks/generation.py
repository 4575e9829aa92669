"""Seconds that generating a clip of 8 s takes, by parts, beside what its operations take at least and beside the plain way.

Random weights of the published sizes; the parts are timed one by one and in turns. From features to a wave: what the encoders
of video and text take is in the table `encoders`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder_networks import vae_decoder, vocoder
from benchmarks.rates import NAMES, bench_device, precisions, seconds_of
from benchmarks.step import new_network
from mmaudio.base.specs import DEFAULT_DURATION_S, TEXT_WIDTH
from mmaudio.flow.guidance import Velocity, guided
from mmaudio.generate.sampler import (
    ConditionBatch,
    SampleSettings,
    batch_conditions,
    null_conditions,
    sample_latents,
    starting_noise,
    velocity_of,
)
from mmaudio.network import CONDITION_ROWS, Conditions, FlowTransformer, find_variant
from mmaudio.trainer.costs import MatrixProduct

HOW = SampleSettings()
VARIANTS = {"cpu": ("small_16k",), "cuda": ("small_16k", "large_44k")}
BATCHES = {"cpu": (1,), "cuda": (1, 16)}
DECODED_S = {"cpu": 1.0, "cuda": DEFAULT_DURATION_S}  # of sound, timed for the codec, whose cost grows with it in proportion
COLUMNS = (
    *("model", "precision", "at once", "conditions, ms", "a step, ms", f"{HOW.num_steps} steps, s", "decoding, s", "whole, s a clip"),
    *("floor of the steps, s", "steps / floor", "two calls / one", "plain way / ours"),
)
LEGEND = f"""\
A clip is 8 s of sound from features of video and text, by {HOW.num_steps} Euler steps with guidance. Conditions: projected and
stacked, once. A step: one velocity, of twice the rows. Decoding: VAE decoder and vocoder in float32. These are of all clips at once;
whole: their sum, a clip (on a GPU timed in one go). Floor: operations of {2 * HOW.num_steps} forward passes a clip at the rate of a
matrix product, timed in turns. Two calls: a step whose conditional and null velocities are computed one after the other. The plain
way: that, with the conditions projected anew in every step.
"""


@dataclass(frozen=True)
class Case:
    """What is measured, of a batch of clips of 8 s. `decoded_s`: seconds of sound that decoding is timed with."""

    variant: str
    num_rows: int
    dtype: torch.dtype = torch.float32
    decoded_s: float = DEFAULT_DURATION_S

    @property
    def amp(self) -> bool:
        return self.dtype == torch.bfloat16


@dataclass(frozen=True)
class Parts:
    """Seconds that parts of a batch take, and what they are compared with. `whole_s`: at once, where that was timed."""

    conditions_s: float
    step_s: float
    two_calls_s: float
    plain_step_s: float
    decode_s: float
    floor_step_s: float
    whole_s: float | None = None

    @property
    def sum_s(self) -> float:
        return self.conditions_s + HOW.num_steps * self.step_s + self.decode_s


def made_up_batch(network: FlowTransformer, num_rows: int) -> ConditionBatch:
    """Features of noise, on the network's device."""
    device = network.sync_pos_emb.device
    text = torch.randn(num_rows, network.text_seq_len, TEXT_WIDTH, device=device)
    clip = torch.randn(num_rows, network.clip_seq_len, CONDITION_ROWS["clip"].width, device=device)
    sync = torch.randn(num_rows, network.sync_seq_len, CONDITION_ROWS["sync"].width, device=device)
    return ConditionBatch([str(row) for row in range(num_rows)], text, clip, sync)


def forward_flops(variant: str, num_rows: int) -> int:
    """Operations of one forward pass of so many rows, counted without computing it."""
    network = new_network(variant, DEFAULT_DURATION_S, torch.device("meta"))
    batch = made_up_batch(network, num_rows)
    with torch.no_grad():
        conditions = batch_conditions(network, batch)
        latent = torch.empty(num_rows, network.latent_seq_len, network.latent_mean.shape[-1], device="meta")
        with FlopCounterMode(display=False) as counter:
            network.predict_flow(latent, torch.empty(num_rows, device="meta"), conditions)
    return int(counter.get_total_flops())


def _two_calls(network: FlowTransformer, told: Conditions, null: Conditions) -> Velocity:
    def plain(conditions: Conditions) -> Velocity:
        return lambda t, x: network.predict_flow(x, t.expand(len(x)), conditions)

    return guided(plain(told), plain(null), HOW.cfg_strength)


def _decoder(case: Case, device: torch.device) -> Callable[[], Tensor]:
    """Decode made-up latents of the whole batch."""
    mode = find_variant(case.variant).mode
    decoder, sounder = (make(mode, case.num_rows, case.decoded_s) for make in (vae_decoder, vocoder))
    vae, network = decoder.ready(device, torch.float32), sounder.ready(device, torch.float32)
    with device:
        latents = decoder.inputs()
    return lambda: network(vae.decode(latents))  # type: ignore[operator]


@torch.inference_mode()
def measure(case: Case, device: torch.device) -> Parts:
    """Time the parts in turns. On a GPU the whole is timed too, where the codec is timed with whole clips."""
    network = new_network(case.variant, DEFAULT_DURATION_S, device).eval().requires_grad_(False)
    batch, decode = made_up_batch(network, case.num_rows), _decoder(case, device)
    settings = SampleSettings(amp=case.amp)
    t, x = torch.tensor(0.5, device=device), starting_noise(network, batch, HOW.seed)
    product = MatrixProduct.on(device, case.dtype)
    with torch.autocast(device.type, torch.bfloat16, enabled=case.amp):
        velocity = velocity_of(network, batch, HOW.cfg_strength)
        told, null = batch_conditions(network, batch), null_conditions(network, batch)
        calls: list[Callable[[], object]] = [
            lambda: velocity_of(network, batch, HOW.cfg_strength),
            lambda: velocity(t, x),
            lambda: _two_calls(network, told, null)(t, x),
            lambda: _two_calls(network, batch_conditions(network, batch), null_conditions(network, batch))(t, x),
            product,
        ]
        conditions_s, step_s, two_calls_s, plain_step_s, product_s = seconds_of(calls, device)
    flops = forward_flops(case.variant, 2 * case.num_rows)
    whole: list[Callable[[], object]] = [lambda: (sample_latents(network, batch, settings), decode())]
    return Parts(
        conditions_s,
        step_s,
        two_calls_s,
        plain_step_s,
        decode_s=seconds_of([decode], device)[0] * DEFAULT_DURATION_S / case.decoded_s,
        floor_step_s=flops * product_s / product.flops,
        whole_s=seconds_of(whole, device)[0] if device.type == "cuda" else None,
    )


def cells(case: Case, parts: Parts) -> list[str]:
    """A row of the table."""
    plain_s = HOW.num_steps * parts.plain_step_s + parts.decode_s
    return [
        case.variant,
        NAMES[case.dtype],
        str(case.num_rows),
        f"{parts.conditions_s * 1e3:.0f}",
        f"{parts.step_s * 1e3:.3g}",
        f"{HOW.num_steps * parts.step_s:.3g}",
        f"{parts.decode_s:.3g}",
        f"{(parts.whole_s or parts.sum_s) / case.num_rows:.3g}",
        f"{HOW.num_steps * parts.floor_step_s:.3g}",
        f"{parts.step_s / parts.floor_step_s:.2f}",
        f"{parts.two_calls_s / parts.step_s:.2f}",
        f"{plain_s / parts.sum_s:.2f} ({HOW.num_steps * parts.plain_step_s / (parts.sum_s - parts.decode_s):.2f} without decoding)",
    ]


def cases_for(device: torch.device) -> list[Case]:
    dtype = precisions(device)[-1]  # bf16 where there are units for it, as `mmaudio generate` has it
    kind = device.type
    return [Case(variant, num_rows, dtype, DECODED_S[kind]) for variant in VARIANTS[kind] for num_rows in BATCHES[kind]]


def print_table() -> None:
    """The models that are bearable on this device."""
    device = bench_device()
    print(LEGEND)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for case in cases_for(device):
        print(f"| {' | '.join(cells(case, measure(case, device)))} |", flush=True)
