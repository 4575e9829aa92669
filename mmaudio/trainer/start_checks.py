"""Whether a run can start from the weights it names, or go on from a checkpoint: the model, what is trained, and the averages fit."""

from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.naming import named
from mmaudio.base.ownership import foreign
from mmaudio.base.places import check_writable
from mmaudio.base.setting_groups import EmaSettings
from mmaudio.base.settings import TrainSettings
from mmaudio.checkpoints.load import Newest, load_checkpoint, load_weights, newest_checkpoint, read_record
from mmaudio.checkpoints.run_state import RunFiles, RunState
from mmaudio.checkpoints.save import is_own
from mmaudio.checkpoints.snapshot_record import check_owner, recorded_snapshots
from mmaudio.checkpoints.snapshots import snapshot_files
from mmaudio.network import STALE_KEYS, VARIANTS, check_weights
from mmaudio.runs.folder import check_folder
from mmaudio.runs.signature import recorded_settings, saved_value
from mmaudio.trainer.descent import check_optimizer
from mmaudio.trainer.ema import averaged_names, count_averages
from mmaudio.trainer.freezing import check_patterns, matching, model_shapes
from mmaudio.trainer.run_settings import ema_folder, final_cond, snapshot_owner, weights_record


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
    is_known = owner.is_at_home or (was_named is not None and Path(was_named).resolve() == folder.resolve())
    if not is_known and recorded_snapshots(folder) is None and (snapshots := snapshot_files(folder)):
        names = named([snapshot.path.name for snapshot in snapshots])
        raise foreign(folder, f"its EMA snapshots ({names}) may be another run's: name another ema.checkpoint_folder")


def check_start(settings: TrainSettings, files: RunFiles, problems: Problems) -> None:
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
    elif path.resolve().parent != own.path.resolve().parent:
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
    """Raises: UserError if a checkpoint is of another model, duration or backend, or was told other conditions."""
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
