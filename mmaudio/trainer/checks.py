"""Whether a training run can be: every mistake that settings and files can show, found before anything is built or written."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mmaudio.base.errors import Problems, nearest
from mmaudio.base.places import check_writable
from mmaudio.base.ranks import Ranks, pick_device
from mmaudio.base.settings import BaseSettings, TrainSettings
from mmaudio.base.sources import SourceSettings
from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.batches import check_batch_size, check_sources
from mmaudio.checkpoints.run_state import RunFiles
from mmaudio.checkpoints.thinning import check_budget
from mmaudio.flow.ode import METHODS
from mmaudio.network import CONDITION_ROWS, VARIANTS, build_network
from mmaudio.trainer.ema import snapshot_bytes
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.sources import null_text, open_sources
from mmaudio.trainer.start_checks import check_start

_EXTRACTION = {
    "video": "torchrun --standalone training/extract_video_training_latents.py",
    "audio": "torchrun --standalone training/extract_audio_training_latents.py",
}
_DIMS = {"text_seq_len": TEXT_TOKENS, "clip_dim": CLIP_WIDTH, "sync_dim": SYNC_WIDTH, "text_dim": TEXT_WIDTH}


def check_training(settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
    """Add a sentence to `problems` for everything that would stop this run. Reads files, writes none."""
    check_names(settings, problems)
    problems.check(lambda: pick_device(settings.device, ranks))
    problems.check(lambda: check_writable(run_dir))
    _check_contradictions(settings, problems)
    files = RunFiles(run_dir, settings.name())
    check_start(settings, files, problems)
    _check_data(settings, files, ranks, problems)


def check_names(settings: BaseSettings, problems: Problems) -> None:
    """Add a sentence for a model or a sampling method that there is not; training and evaluation name both."""
    if settings.model not in VARIANTS:
        problems.add(f"model is {settings.model!r}{nearest(settings.model, VARIANTS)}; known are {', '.join(VARIANTS)}")
    if settings.sampling.method not in METHODS:
        method = settings.sampling.method
        problems.add(f"sampling.method is {method!r}{nearest(method, METHODS)}; known are {', '.join(METHODS)}")


def _check_contradictions(settings: TrainSettings, problems: Problems) -> None:
    for name, want in _DIMS.items():
        if getattr(settings.data_dim, name) != want:
            problems.add(f"data_dim.{name} is {getattr(settings.data_dim, name)}; the encoders of both backends give {want}")
    sigmas = settings.ema.sigma_rels
    if settings.ema.enable and (not sigmas or len(set(sigmas)) != len(sigmas)):
        problems.add(f"ema.sigma_rels is {list(sigmas)}; want at least one width, each once, or ema.enable=False")
    for name in settings.drop_conditions:
        if name not in CONDITION_ROWS:
            problems.add(f"drop_conditions names {name!r}{nearest(name, CONDITION_ROWS)}; known are {', '.join(CONDITION_ROWS)}")
    if settings.ema.enable and settings.model in VARIANTS:
        problems.check(lambda: _check_snapshot_budget(settings))
    if settings.execute_only in ("valid", "evaluate") and not settings.data.val:
        problems.add(f"execute_only is {settings.execute_only!r}, but data.val is empty; name held-out sources: 'data.val=[birds]'")
    if settings.enable_email:
        problems.add("enable_email is True, but this system sends no mail; leave it out")
    if not settings.data.train:
        problems.add("data.train is empty; name the sources to train on: 'data.train=[birds]'")


def _check_snapshot_budget(settings: TrainSettings) -> None:
    """Raises: UserError where the budget of the averages' snapshots has no room for two times."""
    with torch.device("meta"):
        state = build_network(settings.model).state_dict()
    check_budget(snapshot_bytes(state, settings.ema.sigma_rels), settings.ema.max_snapshots_gb)


def _check_data(settings: TrainSettings, files: RunFiles, ranks: Ranks, problems: Problems) -> None:
    used = settings.data.chosen("train", "val")
    missing = {name: source for name, source in used.items() if source.tsv and source.memmap_dir and not source.is_there()}
    if missing:
        problems.add(_missing_sentence(missing, settings))
    train = open_sources(settings, _there(settings.data.train, settings), problems, repeats=True)
    val = open_sources(settings, [name for name in _there(settings.data.val, settings) if name not in settings.data.train], problems)
    if settings.model in VARIANTS:
        check_sources(problems, [*train, *val], model_spec(settings), model=settings.model, backend=settings.backend)
    if settings.batch_size % ranks.world_size:
        problems.add(f"batch_size is {settings.batch_size}; want a multiple of the {ranks.world_size} processes")
    elif len(train) == len(settings.data.train) and train:
        check_batch_size(problems, train, settings.batch_size, ranks.world_size)
    starts_anew = not (settings.weights or settings.checkpoint or any(files.checkpoints()))
    if train and starts_anew:
        problems.check(lambda: null_text(train, settings))


def _there(names: Sequence[str], settings: TrainSettings) -> list[str]:
    """Those of the sources whose stores exist."""
    return [name for name in names if name in settings.data.sources and settings.data.sources[name].is_there()]


def _missing_sentence(missing: dict[str, SourceSettings], settings: TrainSettings) -> str:
    """One sentence: which stores are missing, and which commands make them."""
    mode = VARIANTS[settings.model].mode if settings.model in VARIANTS else "16k"
    options = f" --mode {mode}" if mode != "16k" else ""
    options += f" --duration {settings.duration_s:g}" if settings.duration_s != AudioSpec().duration_s else ""
    options += f" --backend {settings.backend}" if settings.backend != "pretrained" else ""
    options += f" --device {settings.device}" if settings.device in ("cpu", "auto") else ""
    kinds = sorted({source.kind or "video" for source in missing.values()}, reverse=True)
    commands = " and ".join(f"`{_EXTRACTION[kind]}{options}`" for kind in kinds)
    listed = ", ".join(f"{name} ({source.memmap_dir})" for name, source in missing.items())
    return (
        f"missing stores: {listed}; make them with {commands} (--help says where to), train on the guide's example with"
        " example_train=True, or name stores of your own with data.NAME.tsv, data.NAME.memmap_dir and 'data.train=[NAME]'"
    )
