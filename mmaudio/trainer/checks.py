"""Every mistake found before a run starts."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mmaudio.base.errors import Problems, UserError, named, nearest
from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.batches import check_batch_size, check_stores_fit
from mmaudio.batches.sources import null_text, open_sources
from mmaudio.checkpoints.ema_snapshots import check_budget, check_owner, recorded_snapshots, snapshot_files
from mmaudio.checkpoints.load import Newest, load_checkpoint, load_weights, newest_checkpoint, read_record
from mmaudio.checkpoints.run_files import RunFiles, RunState
from mmaudio.checkpoints.save import is_own
from mmaudio.distributed.devices import pick_device
from mmaudio.distributed.ranks import Ranks
from mmaudio.files.atomic import check_writable
from mmaudio.files.ownership import at_end_of_links, foreign
from mmaudio.flow import METHODS
from mmaudio.network import CONDITION_ROWS, STALE_KEYS, VARIANTS, build_network, check_weights
from mmaudio.runs.folder import check_folder
from mmaudio.runs.signature import recorded_settings, saved_value
from mmaudio.settings.compose import program
from mmaudio.settings.data_sources import SourceSettings
from mmaudio.settings.schema import BaseSettings, EmaSettings, TrainSettings
from mmaudio.trainer.ema_averages import averaged_names, count_averages, snapshot_bytes
from mmaudio.trainer.model_settings import (
    check_patterns,
    ema_folder,
    final_cond,
    matching,
    model_shapes,
    model_spec,
    snapshot_owner,
    weights_record,
)
from mmaudio.trainer.optimizer import check_optimizer

_EXTRACTION = {  # kind of a store → the script and the command that make it
    "video": ("training/extract_video_training_latents.py", "extract video"),
    "audio": ("training/extract_audio_training_latents.py", "extract audio"),
}
_DIMS = {"text_seq_len": TEXT_TOKENS, "clip_dim": CLIP_WIDTH, "sync_dim": SYNC_WIDTH, "text_dim": TEXT_WIDTH}  # the only ones there are


def check_training(settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
    """Add a sentence to `problems` for everything that would stop this run. Reads files, writes none."""
    check_names(settings, problems)
    problems.check(lambda: pick_device(settings.device, ranks))
    problems.check(lambda: check_writable(run_dir))
    _check_contradictions(settings, problems)
    files = RunFiles(run_dir, settings.name())
    check_resume(settings, files, problems)
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
        check_stores_fit(problems, [*train, *val], model_spec(settings), model=settings.model, backend=settings.backend)
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
    commands = " and ".join(f"`torchrun --standalone {program(*_EXTRACTION[kind])}{options}`" for kind in kinds)
    listed = ", ".join(f"{name} ({source.memmap_dir})" for name, source in missing.items())
    return (
        f"missing stores: {listed}; make them with {commands} (--help says where to), train on the guide's example with"
        " example_train=True, or name stores of your own with data.NAME.tsv, data.NAME.memmap_dir and 'data.train=[NAME]'"
    )


# ---- Whether the folder of a run, and that of its averages, are its own


def check_run_folder(settings: TrainSettings, run_dir: Path) -> None:
    """Raises: UserError where the folder of a run holds what is not its own, or not this program's.

    For the process that writes there: to another one, what that one has begun to write looks the same.
    """
    files = RunFiles(run_dir, settings.name())
    checkpoints = list(files.checkpoints())
    if not any(is_own(path, settings.name()) for path in checkpoints):  # its record proves whose folder it is, too
        check_folder(run_dir, settings.name(), files.patterns(), has_checkpoint=bool(checkpoints))
    if settings.ema.enable and not settings.only_stage():
        _check_snapshots(settings, files)


def _check_snapshots(settings: TrainSettings, files: RunFiles) -> None:
    """Raises: UserError where the folder of the averages is another run's, or its snapshots are nobody knows whose."""
    folder, owner = ema_folder(settings, files), snapshot_owner(settings, files)
    if not owner.is_at_home:
        check_writable(folder)
    check_owner(folder, owner)
    was_named = saved_value(files.folder, "ema.checkpoint_folder")  # the version before left no record, but the settings of the run
    is_known = owner.is_at_home or (was_named is not None and at_end_of_links(Path(was_named)) == at_end_of_links(folder))
    if not is_known and recorded_snapshots(folder) is None and (snapshots := snapshot_files(folder)):
        names = named([snapshot.path.name for snapshot in snapshots])
        raise foreign(folder, f"its EMA snapshots ({names}) may be another run's: name another ema.checkpoint_folder")


# ---- Whether a run can start from the weights it names, or go on from a checkpoint: the model, what is trained, and the averages fit


def check_resume(settings: TrainSettings, files: RunFiles, problems: Problems) -> None:
    """Add a sentence to `problems` for everything that keeps the run from the weights or the checkpoint it would start from."""
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
        folder = own.path.parent
        problems.check(lambda: _refuse_other_run(settings, own.path, f"{folder} holds", "or choose another exp_id"))
    began_with = (recorded_settings(files.folder) or {}).get("checkpoint")
    goes_on = own is not None and settings.checkpoint in (None, began_with)
    if own is not None and model and goes_on:
        problems.check(lambda: _refuse_misfit(settings, own.path, own.state))
    if settings.checkpoint and not goes_on:
        path = Path(settings.checkpoint)
        asked = problems.check(lambda: load_checkpoint(path))
        if asked is not None and own is not None:
            _refuse_to_replace(path, asked, own, problems)
        if asked is not None and model:
            way_out = f"or start a new run from its weights: exp_id=NEW weights={path}"
            problems.check(lambda: _refuse_other_run(settings, path, f"{path} is of", way_out))
            problems.check(lambda: _refuse_misfit(settings, path, asked))
        if asked is not None:
            problems.check(lambda: _refuse_other_averages(settings.ema, path, asked))
    elif own is not None:
        problems.check(lambda: _refuse_other_averages(settings.ema, own.path, own.state))


def _refuse_to_replace(path: Path, asked: RunState, own: Newest, problems: Problems) -> None:
    """A checkpoint from elsewhere would take the place of what the run has, and one of its own that of what came after."""
    if own.state.steps_done > asked.steps_done:
        problems.add(
            f"checkpoint={path} stands at {asked.steps_done} iterations, but this run's own {own.path} is at"
            f" {own.state.steps_done}; leave checkpoint out to go on, or choose another exp_id"
        )
    elif at_end_of_links(path).parent != at_end_of_links(own.path).parent:
        problems.add(
            f"{own.path.parent} holds a run of its own, at {own.state.steps_done} iterations, which checkpoint={path} is none of;"
            " leave checkpoint out to go on, or choose another exp_id"
        )


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
    for index, names in enumerate(averaged_names(state.ema)):
        if lacking := sorted(state.weights.keys() - names - set(STALE_KEYS)):
            raise UserError(
                f"average {index} of {path} lacks {lacking[0]} ({len(lacking)} in all); it was damaged: take another checkpoint"
            )
    count = count_averages(state.ema)
    if ema.enable and count != len(ema.sigma_rels):
        raise UserError(
            f"{path} holds {count} average{'s'[: count != 1]} and ema.sigma_rels is {list(ema.sigma_rels)};"
            f" want {count} width{'s'[: count != 1]}, {way_out}"
        )


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


def _refuse_other_run(settings: TrainSettings, path: Path, found: str, way_out: str) -> None:
    """Raises: UserError if a checkpoint is of another model, duration or backend, or of other conditions."""
    record = read_record(path)
    if record is None or settings.model not in VARIANTS:
        return
    asked = weights_record(settings, record.step)
    keys = {"model": "variant", "duration_s": "duration_s", "backend": "backend", "final_cond": "final_cond", "drop_conditions": "dropped"}
    other = {key: name for key, name in keys.items() if getattr(record, name) != getattr(asked, name)}
    if other:
        was, now = (" ".join(f"{key}={_word(getattr(each, name))}" for key, name in other.items()) for each in (record, asked))
        raise UserError(f"{found} a run with {was}, not {now}; give these settings, {way_out}")


def _word(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, tuple) else str(value)


def _refuse_other_final_layer(settings: TrainSettings, path: Path) -> None:
    """Raises: UserError for weights whose final layer was trained to be modulated by something else."""
    record = read_record(path)
    if record is not None and record.final_cond != final_cond(settings):
        raise UserError(f"{path} was trained with final_cond={record.final_cond}; add final_cond={record.final_cond}")
