"""Parameters that a run does not train: chosen by patterns, bitwise what they were, and part of what a run goes on with."""

import json
import os
import signal
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from torch import nn

from mmaudio.base.errors import Problems, UserError
from mmaudio.checkpoints.run_files import RunFiles, record_beside
from mmaudio.distributed.ranks import Ranks
from mmaudio.network import build_network
from mmaudio.settings.schema import EmaSettings, TrainSettings
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.model_settings import check_patterns, freeze_, model_shapes, trainable_shapes
from mmaudio.trainer.optimizer import build_optimizer, load_optimizer_
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_data

NAMES = list(model_shapes("nano_16k"))
FREEZE = ("joint_blocks.*", "*_input_proj.0.weight", "empty_clip_feat")


def is_frozen(name: str, patterns: tuple[str, ...] = FREEZE) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# ---- patterns


def test_names_are_those_that_are_trained():
    torch.manual_seed(0)
    network = build_network("nano_16k")
    assert list(trainable_shapes(network)) == NAMES == [name for name, p in network.named_parameters() if p.requires_grad]
    freeze_(network, FREEZE)
    assert list(trainable_shapes(network)) == [name for name in NAMES if not is_frozen(name)]
    freeze_(network, FREEZE)  # a second time changes nothing
    assert list(trainable_shapes(network)) == [name for name in NAMES if not is_frozen(name)]


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("joint_block.*", " (did you mean 'joint_blocks.*'?)"),
        ("joint_blocks", " (did you mean 'joint_blocks.*'?)"),
        ("Joint_blocks.*", " (did you mean 'joint_blocks.*'?)"),  # case counts
        ("final_layer.conv.weigth", " (did you mean 'final_layer.conv.weight'?)"),
        ("clip_input_proj.7.*", " (did you mean 'clip_input_proj.1.*'?)"),
        ("latent_mean", None),  # never trained, so there is nothing to freeze
        ("", ""),
    ],
)
def test_a_pattern_without_a_match_is_refused(pattern, advice):
    with pytest.raises(UserError) as caught:
        check_patterns(NAMES, ["final_layer.*", pattern])
    (sentence,) = caught.value.sentences
    assert sentence.startswith(f"freeze names {pattern!r}, which no trained parameter matches")
    assert advice is None or sentence.endswith(f"matches{advice}")


def test_freezing_everything_is_refused():
    for patterns in (["*"], ["[!f]*", "f*"]):
        with pytest.raises(UserError, match="which leaves nothing to train"):
            check_patterns(NAMES, patterns)
    check_patterns(NAMES, ["[!f]*"])
    check_patterns(NAMES, [])


def test_state_is_ordered_by_what_is_trained():
    torch.manual_seed(0)
    network = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in "abc"})
    freeze_(network, ["b.*"])
    optimizer = build_optimizer(network, learning_rate=1e-3, weight_decay=0.1, amp=False)
    sum(part(torch.ones(1, 2)).sum() * weight for part, weight in zip(network.values(), (1.0, 10.0, 100.0), strict=True)).backward()
    optimizer.step()
    state = optimizer.state_dict()["state"]
    assert [state[index]["exp_avg"][0, 0].item() for index in (0, 1)] == pytest.approx([0.1, 10.0])
    assert len(state) == 2


def test_an_optimizer_of_other_shapes_is_refused():
    def optimizer(*sizes: int) -> torch.optim.AdamW:
        return build_optimizer(nn.ParameterList([torch.ones(size) for size in sizes]), learning_rate=1e-3, weight_decay=0.0, amp=False)

    def tensors(*sizes: int) -> list[torch.Tensor]:
        return [torch.ones(size) for size in sizes]

    saved = optimizer(2, 3)
    for parameter in saved.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    saved.step()
    load_optimizer_(optimizer(2, 3), saved.state_dict(), tensors(2, 3))
    with pytest.raises(UserError, match=r"parameter 0 of the checkpoint's optimizer is \(2,\), that of this run \(3,\)"):
        load_optimizer_(optimizer(3, 2), saved.state_dict(), tensors(3, 2))
    with pytest.raises(UserError, match="holds no optimizer state"):
        load_optimizer_(optimizer(2, 3), {}, tensors(2, 3))


# ---- whole runs


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(data) -> TrainSettings:
    settings = tiny_settings(data, "frozen", freeze=FREEZE, num_iterations=4, save_checkpoint_interval=2, weight_decay=0.1)
    # a width that no snapshot has, so that the final weights are a sum whose coefficients do not add up to 1
    return replace(settings, ema=EmaSettings(checkpoint_every=1, default_output_sigma=0.08))


def run(settings: TrainSettings, folder: Path, **extras) -> bool:
    return train(settings, folder, Ranks(), torch.device("cpu"), **extras)


def problems_of(settings: TrainSettings, folder: Path) -> list[str]:
    problems = Problems()
    check_training(settings, folder, Ranks(), problems)
    return problems.sentences


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Everything in a nest of dictionaries and lists, by path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {prefix: value}
    return {name: leaf for key, part in items for name, leaf in flat(part, f"{prefix}/{key}").items()}


def assert_equal(one: Path, other: Path) -> None:
    mine, theirs = (flat(torch.load(path, weights_only=True)) for path in (one, other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name], name


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights a run began with, and the folder of the run."""
    folder, begun = tmp_path_factory.mktemp("straight"), {}

    def look(trainer, steps_done):
        begun.update({name: tensor.clone() for name, tensor in trainer.state.network.state_dict().items()})
        return {}

    run(replace(base, log_extra_interval=100), folder, generate=look)
    return begun, folder


def test_frozen_ones_stay_and_others_move(base, straight):
    begun, folder = straight
    files = RunFiles(folder, "frozen")
    checkpoint = torch.load(files.checkpoint_last, weights_only=True)
    ema = {name: tensor for name, tensor in checkpoint["ema"].items() if ".ema_model." in name}
    final = torch.load(files.ema_final, weights_only=True)
    for name in NAMES:
        same = torch.equal(checkpoint["weights"][name], begun[name])
        assert same == is_frozen(name), name
        if same:
            assert torch.equal(final[name], begun[name]), name
            assert all(torch.equal(ema[f"ema_models.{index}.ema_model.{name}"], begun[name]) for index in (0, 1)), name
    trained = [name for name in NAMES if not is_frozen(name)]
    assert list(checkpoint["optimizer"]["state"]) == list(range(len(trained)))
    assert [state["exp_avg"].shape for state in checkpoint["optimizer"]["state"].values()] == [begun[name].shape for name in trained]
    assert json.loads(record_beside(files.checkpoint_last).read_text())["freeze"] == list(FREEZE)


def test_stopped_and_resumed_equals_straight(base, straight, tmp_path):
    def stop(trainer, steps_done):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    assert not run(replace(base, eval_interval=3), tmp_path, evaluate=stop)
    assert problems_of(base, tmp_path) == []
    assert run(base, tmp_path)
    for kind in ("ckpt_last", "last", "ema_final"):
        assert_equal(tmp_path / f"frozen_{kind}.pth", straight[1] / f"frozen_{kind}.pth")


def test_another_freeze_does_not_go_on(base, straight):
    folder = straight[1]
    path = folder / "frozen_ckpt_last.pth"
    for freeze in ((), FREEZE[:2], ("fused_blocks.*",)):
        (sentence,) = problems_of(replace(base, freeze=freeze), folder)
        assert sentence == (
            f"{path} was trained with freeze={list(FREEZE)}, not freeze={list(freeze)}; go on with that, or start a new run from"
            f" its weights: exp_id=NEW weights={path}"
        )
    elsewhere = replace(base, exp_id="new", checkpoint=str(path), freeze=())
    assert [sentence.split(" was ")[0] for sentence in problems_of(elsewhere, folder)] == [str(path)]
    assert problems_of(replace(base, exp_id="new", weights=str(path), freeze=()), folder) == []
    same_ones = (*reversed(FREEZE), "joint_blocks.0.*")  # other patterns that mean the same
    assert problems_of(replace(base, freeze=same_ones), folder) == []


def test_without_a_record_the_state_itself_shows(base, straight, tmp_path):
    path = tmp_path / "alone.pth"
    path.write_bytes((straight[1] / "frozen_ckpt_last.pth").read_bytes())
    settings = replace(base, exp_id="new", checkpoint=str(path))
    assert problems_of(settings, tmp_path) == []
    num, way_out = len(NAMES), f"; go on with the freeze it had, or start a new run from its weights: exp_id=NEW weights={path}"
    num_trained = len([name for name in NAMES if not is_frozen(name)])
    (sentence,) = problems_of(replace(settings, freeze=()), tmp_path)
    counts = f"the checkpoint's optimizer holds {num_trained} parameters, this run trains {num}"
    assert sentence == f"{path} does not fit freeze=[]: {counts}{way_out}"
    as_many = tuple(NAMES[-(num - num_trained) :])  # the same number, but others
    (sentence,) = problems_of(replace(settings, freeze=as_many), tmp_path)
    assert "of the checkpoint's optimizer is (" in sentence
    assert sentence.endswith(way_out)


def test_patterns_are_checked_before_anything_starts(base, tmp_path):
    assert problems_of(replace(base, freeze=("joint_block.*", "clip_input_proj.*", "z*")), tmp_path) == [
        "freeze names 'joint_block.*', which no trained parameter matches (did you mean 'joint_blocks.*'?)",
        "freeze names 'z*', which no trained parameter matches",
    ]
    assert problems_of(replace(base, freeze=("*",)), tmp_path) == [
        "freeze is ['*'], which leaves nothing to train; want patterns that spare some parameters"
    ]
