"""A trained network with the backend it was trained on: everything generation needs, from one weights file."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.features.backend import Backend, build_backend
from mmaudio.network import FlowTransformer, find_variant, load_network


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode and its backend, on one device."""

    network: FlowTransformer
    backend: Backend

    @property
    def device(self) -> torch.device:
        return self.backend.device

    def set_duration(self, duration_s: float) -> AudioSpec:
        """Switch the network to clips of this length; the lengths of such a clip."""
        spec = AudioSpec(self.backend.spec.mode, duration_s)
        self.network.update_seq_lengths(spec.num_latents, spec.num_clip_frames, spec.num_sync_tokens)
        return spec


@dataclass(frozen=True)
class ModelChoice:
    """What a user says of the model; None leaves it to the record beside the weights, then to the published default."""

    weights: Path
    variant: str | None = None
    backend: str | None = None
    duration_s: float | None = None


def load_model(choice: ModelChoice, device: torch.device) -> Model:
    """Load weights and build the backend that belongs to them.

    Raises: UserError for weights that are missing or of another variant, and where neither the user nor a record says
    which variant they are.
    """
    if not choice.weights.is_file():
        raise UserError(f"no weights at {choice.weights}; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    record = read_record(choice.weights)
    variant = choice.variant or (record.variant if record else None)
    backend_name = choice.backend or (record.backend if record else "pretrained")
    duration_s = choice.duration_s if choice.duration_s is not None else (record.duration_s if record else DEFAULT_DURATION_S)
    try:
        AudioSpec(duration_s=duration_s)
    except ValueError as error:
        raise UserError(f"--duration: {error}") from None
    if variant is None:
        raise UserError(f"{choice.weights} has no record beside it; say which model it is with --variant")
    problems = Problems()
    if record is not None and choice.backend not in (None, record.backend):
        problems.add(f"{choice.weights.name} was trained on features of the {record.backend} backend, not of {choice.backend}")
    row = problems.check(lambda: find_variant(variant))
    backend = problems.check(lambda: build_backend(backend_name, row.mode if row else "16k", duration_s=duration_s, device=device))
    state = problems.check(lambda: load_weights(choice.weights))
    problems.raise_any()
    assert backend is not None
    assert state is not None
    network = load_network(state, variant, duration_s=duration_s)
    return Model(network.eval().requires_grad_(False).to(device), backend)
