"""A trained network with the backend it was trained on: everything generation needs, from one weights file."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.options import spec_of
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.features.backend import Backend
from mmaudio.features.backend_plan import FOR_GENERATION, BackendPlan
from mmaudio.network import FlowTransformer, find_variant, load_network

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode and its backend, on one device."""

    network: FlowTransformer
    backend: Backend
    dropped: tuple[str, ...] = ()  # conditions it was trained without

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
    backend_keywords: Mapping[str, Any] = field(default_factory=dict)  # of a BackendPlan: dtype, places, memory_gb, compiled


@dataclass(frozen=True)
class ModelPlan:
    """What is to be loaded, as the user and the record beside the weights say; nothing has been."""

    weights: Path
    variant: str
    final_cond: str
    dropped: tuple[str, ...]
    backend: BackendPlan

    @property
    def spec(self) -> AudioSpec:
        return self.backend.spec


def plan_model(choice: ModelChoice) -> ModelPlan:
    """Decide what to load; of files, no more than the record is read.

    Raises: UserError for weights that are missing, what contradicts their record, and where neither the user nor a record
    says which variant they are.
    """
    if not choice.weights.is_file():
        raise UserError(f"no weights at {choice.weights}; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    record = read_record(choice.weights)
    variant = choice.variant or (record.variant if record else None)
    backend_name = choice.backend or (record.backend if record else "pretrained")
    duration_s = choice.duration_s if choice.duration_s is not None else (record.duration_s if record else DEFAULT_DURATION_S)
    if variant is None:
        raise UserError(f"{choice.weights} has no record beside it; say which model it is with --variant")
    if record is None:
        log.info("%s has no record beside it: taken as a published %s, with all its conditions", choice.weights, variant)
    problems = Problems()
    if record is not None and choice.backend not in (None, record.backend):
        problems.add(f"{choice.weights.name} was trained on features of the {record.backend} backend, not of {choice.backend}")
    row = problems.check(lambda: find_variant(variant))
    spec = problems.check(lambda: spec_of(row.mode if row else "16k", duration_s))
    backend = problems.check(lambda: BackendPlan(backend_name, spec or AudioSpec(), **choice.backend_keywords))
    problems.raise_any()
    assert row is not None
    assert backend is not None
    final_cond = record.final_cond if record else row.final_cond
    return ModelPlan(choice.weights, variant, final_cond, record.dropped if record else (), backend)


def load_model(choice: ModelChoice, device: torch.device, needs: Collection[str] = FOR_GENERATION) -> Model:
    """Load weights and build the backend that belongs to them: `load_planned` of `plan_model`, with their arguments and errors."""
    return load_planned(plan_model(choice), device, needs)


def load_planned(plan: ModelPlan, device: torch.device, needs: Collection[str] = FOR_GENERATION) -> Model:
    """Load what was planned.

    Args:
        needs: what the backend has to do, of mmaudio.features.backend_plan.ABILITIES.
    Raises: UserError for weights that are damaged or of another variant, and for a backend whose weights cannot be had.
    """
    state = load_weights(plan.weights)
    network = load_network(state, plan.variant, duration_s=plan.spec.duration_s, final_cond=plan.final_cond)
    backend = Backend.load(plan.backend, device, needs)  # may download, so everything else is known to be right before
    return Model(network.eval().requires_grad_(False).to(device), backend, plan.dropped)
