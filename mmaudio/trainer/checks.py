"""Whether a training run can be: every mistake that settings and files can show, found before anything is built or written."""

from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.ranks import Ranks, pick_device
from mmaudio.base.settings import EmaSettings, TrainSettings
from mmaudio.base.sources import SourceSettings
from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.batches import check_batch_size, check_sources
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint, read_record
from mmaudio.checkpoints.run_state import RunFiles, RunState
from mmaudio.flow.ode import METHODS
from mmaudio.network import CONDITION_ROWS, VARIANTS, check_weights
from mmaudio.runs.signature import recorded_settings
from mmaudio.trainer.descent import check_optimizer
from mmaudio.trainer.ema import count_averages
from mmaudio.trainer.flow_run import check_snapshot_budget, final_cond, weights_record
from mmaudio.trainer.freezing import check_patterns, matching, model_shapes
from mmaudio.trainer.sources import null_text, open_sources

_EXTRACTION = {
    "video": "torchrun --standalone training/extract_video_training_latents.py",
    "audio": "torchrun --standalone training/extract_audio_training_latents.py",
}
_DIMS = {"text_seq_len": TEXT_TOKENS, "clip_dim": CLIP_WIDTH, "sync_dim": SYNC_WIDTH, "text_dim": TEXT_WIDTH}


def check_training(settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
    """Add a sentence to `problems` for everything that would stop this run. Reads files, writes none."""
    if settings.model not in VARIANTS:
        problems.add(f"model is {settings.model!r}{nearest(settings.model, VARIANTS)}; known are {', '.join(VARIANTS)}")
    if settings.sampling.method not in METHODS:
        method = settings.sampling.method
        problems.add(f"sampling.method is {method!r}{nearest(method, METHODS)}; known are {', '.join(METHODS)}")
    problems.check(lambda: pick_device(settings.device, ranks))
    _check_contradictions(settings, problems)
    files = RunFiles(run_dir, settings.name())
    _check_weights(settings, files, problems)
    _check_data(settings, files, ranks, problems)


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
        problems.check(lambda: check_snapshot_budget(settings))
    if settings.enable_email:
        problems.add("enable_email is True, but this system sends no mail; leave it out")
    if not settings.data.train:
        problems.add("data.train is empty; name the sources to train on: 'data.train=[birds]'")


# ---- weights and checkpoints


def _check_weights(settings: TrainSettings, files: RunFiles, problems: Problems) -> None:
    model = settings.model if settings.model in VARIANTS else None
    if settings.weights and not settings.checkpoint and not any(files.checkpoints()):  # otherwise they are not read
        weights = problems.check(lambda: load_weights(Path(str(settings.weights))))
        if weights is not None and model:
            problems.check(lambda: check_weights(weights, model))
            problems.check(lambda: _refuse_other_final_layer(settings, Path(str(settings.weights))))
    if settings.freeze and model:
        problems.check(lambda: check_patterns(list(model_shapes(model)), settings.freeze))
    own = problems.check(lambda: newest_checkpoint(files))
    if own is not None:
        problems.check(lambda: _refuse_own(settings, own.path, own.state))
    if settings.checkpoint:
        path = Path(settings.checkpoint)
        asked = problems.check(lambda: load_checkpoint(path))
        if asked is not None and own is not None and own.state.steps_done > asked.steps_done:
            problems.add(
                f"checkpoint={path} stands at {asked.steps_done} iterations, but this run's own {own.path} is at"
                f" {own.state.steps_done}; leave checkpoint out to go on, or choose another exp_id"
            )
        if asked is not None and model:
            problems.check(lambda: _refuse_misfit(settings, path, asked))
        if asked is not None:
            problems.check(lambda: _refuse_other_averages(settings.ema, path, asked))
    elif own is not None:
        problems.check(lambda: _refuse_other_averages(settings.ema, own.path, own.state))


def _refuse_other_averages(ema: EmaSettings, path: Path, state: RunState) -> None:
    """Averages cannot change their widths or pace midway.

    Raises: UserError for other ones than those of the checkpoint: as its folder says, or else by their number.
    """
    if state.ema is None:
        return
    way_out = f"or start a new run from its weights: exp_id=NEW weights={path}"
    recorded = recorded_settings(path.parent)
    if recorded is not None:
        default = EmaSettings()
        found = (list(recorded.get("ema.sigma_rels", default.sigma_rels)), recorded.get("ema.update_every", default.update_every))
        asked = (list(ema.sigma_rels), ema.update_every)
        if found != asked:
            was, now = (f"ema.sigma_rels={sigmas} ema.update_every={every}" for sigmas, every in (found, asked))
            raise UserError(f"{path} holds averages begun with {was}, not {now}; go on with those, {way_out}")
    count = count_averages(state.ema)
    if ema.enable and count != len(ema.sigma_rels):
        raise UserError(
            f"{path} holds {count} average{'s'[: count != 1]} and ema.sigma_rels is {list(ema.sigma_rels)};"
            f" want {count} width{'s'[: count != 1]}, {way_out}"
        )


def _refuse_own(settings: TrainSettings, path: Path, state: RunState) -> None:
    """Raises: UserError if the run's own checkpoint is of other settings, or cannot be gone on from."""
    _refuse_other_run(settings, path)
    if settings.model in VARIANTS and not settings.checkpoint:
        _refuse_misfit(settings, path, state)


def _refuse_misfit(settings: TrainSettings, path: Path, state: RunState) -> None:
    """Weights of another model cannot go on, nor can an optimizer of other parameters: it goes by place among the trained ones.

    Raises: UserError where the checkpoint is of other ones, as its record says, or else as its tensors show.
    """
    check_weights(state.weights, settings.model)
    shapes, record = model_shapes(settings.model), read_record(path)
    way_out = f"start a new run from its weights: exp_id=NEW weights={path}"
    frozen = matching(shapes, settings.freeze)
    if record is not None and matching(shapes, record.freeze) != frozen:
        was, now = (f"freeze={list(patterns)}" for patterns in (record.freeze, settings.freeze))
        raise UserError(f"{path} was trained with {was}, not {now}; go on with that, or {way_out}")
    try:
        check_optimizer(state.optimizer, [shape for name, shape in shapes.items() if name not in frozen])
    except UserError as error:
        raise UserError(
            f"{path} does not fit freeze={list(settings.freeze)}: {error}; go on with the freeze it had, or {way_out}"
        ) from None


def _refuse_other_run(settings: TrainSettings, path: Path) -> None:
    """Raises: UserError if the run's checkpoint is of another model, duration or backend, or was told other conditions."""
    record = read_record(path)
    if record is None or settings.model not in VARIANTS:
        return
    asked = weights_record(settings, record.step)
    keys = {"model": "variant", "duration_s": "duration_s", "backend": "backend", "final_cond": "final_cond", "drop_conditions": "dropped"}
    other = {key: name for key, name in keys.items() if getattr(record, name) != getattr(asked, name)}
    if other:
        was, now = (" ".join(f"{key}={_word(getattr(each, name))}" for key, name in other.items()) for each in (record, asked))
        raise UserError(f"{path.parent} holds a run with {was}, not {now}; give it these settings, or choose another exp_id")


def _word(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, tuple) else str(value)


def _refuse_other_final_layer(settings: TrainSettings, path: Path) -> None:
    """Raises: UserError for weights whose final layer was trained to be modulated by something else."""
    record = read_record(path)
    if record is not None and record.final_cond != final_cond(settings):
        raise UserError(f"{path} was trained with final_cond={record.final_cond}; add final_cond={record.final_cond}")


# ---- data


def _check_data(settings: TrainSettings, files: RunFiles, ranks: Ranks, problems: Problems) -> None:
    used = settings.data.chosen("train", "val")
    missing = {name: source for name, source in used.items() if source.tsv and source.memmap_dir and not source.is_there()}
    if missing:
        problems.add(_missing_sentence(missing, settings))
    train = open_sources(settings, _there(settings.data.train, settings), problems, repeats=True)
    val = open_sources(settings, [name for name in _there(settings.data.val, settings) if name not in settings.data.train], problems)
    if settings.model in VARIANTS:
        spec = AudioSpec(VARIANTS[settings.model].mode, settings.duration_s)
        check_sources(problems, [*train, *val], spec, model=settings.model, backend=settings.backend)
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
