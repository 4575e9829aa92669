"""Evaluation while a run trains: when, where its sound goes, the best by a metric, the test data at the end, and going on without."""

import json

import pytest
import torch

from mmaudio.base.errors import Problems, UserError
from mmaudio.evaluation.training_stages import check_stages
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.tracker import read_metrics
from tests.conftest import ROOT, torchrun
from tests.trainer.tiny_stores import TINY, data_overrides, tiny_settings, write_tiny_data

WORDS = (*TINY, "sampling.num_steps=2", "num_iterations=4", "eval_interval=2", "save_eval_interval=4", "data.test=[held]")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_data(tmp_path_factory.mktemp("data"))


def words_for(data, *more):
    return (*WORDS, *(word for word in data_overrides(data) if not word.startswith("data.test")), *more)


def evaluations(run):
    return [line for line in read_metrics(run) if "evaluate/onset_f1" in line]


def test_training_scores_itself_on_the_way_and_at_the_end(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = run_script("train.py", *words_for(data, "exp_id=one", "best_metric=evaluate/spectral_distance"))
    assert ended.code == 0, ended.err
    run = tmp_path / "output/one"
    told = evaluations(run)
    assert [line["steps_done"] for line in told] == [2, 4]
    assert {"evaluate/mel_frechet", "evaluate/onset_f1_shuffled"} <= told[0].keys()
    assert sorted(path.name for path in (run / "val").iterdir()) == ["000000004", "reference", "val-cache"]
    for name in ("000000004", "reference", "val-cache"):
        assert sorted(path.stem for path in (run / "val" / name).glob("*.flac")) == [f"held-{row}" for row in range(5)]
    state = torch.load(run / "one_ckpt_last.pth", weights_only=True)
    values = {line["steps_done"]: line["evaluate/spectral_distance"] for line in told}
    best = min(values, key=values.__getitem__)
    assert state["extra"]["best"] == {"value": values[best], "steps_done": best, "metric": "evaluate/spectral_distance"}
    assert json.loads((run / "one_best.pth.json").read_text())["step"] == best
    scores = json.loads((run / "test-output_metrics.json").read_text())
    assert scores["counts"]["paired"] == len(list((run / "test-sampled").glob("*.flac"))) == 5
    assert scores["subject"]["weights"].endswith("one_ema_final.pth")
    made = {path: path.stat().st_mtime_ns for path in (run / "test-sampled").glob("*.flac")}
    again = run_script("train.py", *words_for(data, "exp_id=one", "best_metric=evaluate/spectral_distance"))
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in (run / "test-sampled").glob("*.flac")} == made


@pytest.mark.slow
def test_two_processes_score_as_one(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, processes in (("alone", 1), ("both", 2)):
        words = words_for(data, f"exp_id={name}", "execute_only=evaluate", "evaluate.max_rows=4")
        ended = torchrun(ROOT / "train.py", *words, processes=processes, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    alone, both = (evaluations(tmp_path / "output" / name) for name in ("alone", "both"))
    for key, value in alone[0].items():
        if key.startswith("evaluate/"):
            assert both[0][key] == pytest.approx(value, rel=0.02), key
    assert len(list((tmp_path / "output/both/val/000000000").glob("*.flac"))) == 4


@pytest.mark.slow
def test_what_one_process_cannot_sound_is_told_by_both(data):
    ended = torchrun(ROOT / "tests/commands/failing_rank.py", data, PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    assert sorted(line for line in ended.stdout.splitlines() if line) == [f"rank {rank}: the second rank cannot" for rank in (0, 1)]


DEAF = ("exp_id=deaf", "log_extra_interval=2", "metrics.names=[onset_f1]", "best_metric=evaluate/onset_f1")


def deafen(monkeypatch):
    def no_abilities(*_):
        raise UserError("no ears")

    monkeypatch.setattr("mmaudio.features.backend.lite_abilities", no_abilities)


def failures(run):
    """(stage, steps done, failures so far) as the run's metrics have them."""
    found = [(name, line["steps_done"], value) for line in read_metrics(run) for name, value in line.items()]
    return [(name.removesuffix("/failed"), steps_done, value) for name, steps_done, value in found if name.endswith("/failed")]


def last_line(ended):
    return ended.out.rstrip().rsplit("\n", 1)[-1]


@pytest.mark.slow
def test_without_what_sounds_it_training_goes_on_and_says_what_is_not_done(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, run = words_for(data, *DEAF), tmp_path / "output/deaf"
    with monkeypatch.context() as deaf:
        deafen(deaf)
        ended = run_script("train.py", *words)
        assert ended.code == 3, ended.err
        assert ended.out.count("failed: no ears; the run goes on without") == 6 and "Traceback" not in ended.out + ended.err
        assert ended.out.count("evaluate/onset_f1 was not measured after") == 2
        missed = "generate after 0, 2, 4 iterations; evaluate after 2, 4 iterations; test after 4 iterations"
        assert f"not done: {missed}; " in last_line(ended)
        assert "execute_only=generate" in last_line(ended) and "`python evaluate.py exp_id=deaf`" in last_line(ended)
        assert evaluations(run) == []
        on_the_way = [("generate", 0, 1), ("evaluate", 2, 1), ("generate", 2, 2), ("evaluate", 4, 2), ("generate", 4, 3)]
        assert failures(run) == [*on_the_way, ("test", 4, 1)]
        assert torch.load(run / "deaf_ckpt_last.pth", weights_only=True)["it"] == 4
        assert run_script("train.py", *words, "execute_only=evaluate").code == 2
    for stage in ("generate", "evaluate"):
        assert run_script("train.py", *words, f"execute_only={stage}").code == 0
    assert [line["steps_done"] for line in evaluations(run)] == [4]
    assert run_script("train.py", *words).code == 0  # which does the test data


def test_what_cannot_be_written_ends_no_training(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "output/full"
    begun = run_script("train.py", *words_for(data, "exp_id=full", "log_extra_interval=0", "num_iterations=1", "metrics.names=[]"))
    assert begun.code == 0, begun.err
    (run / "val/val-cache/held-1.flac").mkdir(parents=True)  # neither written nor removed as a file
    for place in ("previews", "test-sampled"):
        (run / place).write_text("no folder")
    ended = run_script("train.py", *words_for(data, "exp_id=full", "log_extra_interval=2", "num_iterations=2", "metrics.names=[onset_f1]"))
    assert ended.code == 3, ended.err
    missed = "evaluate after 2 iterations; generate after 2 iterations; test after 2 iterations"
    assert f"not done: {missed}; " in last_line(ended) and "Traceback" not in ended.out + ended.err
    assert torch.load(run / "full_ckpt_last.pth", weights_only=True)["it"] == 2


def test_of_a_bug_the_log_file_has_the_traceback(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("mmaudio.evaluation.training_stages.sample_latents", out_of_memory)
    ended = run_script("train.py", *words_for(data, "exp_id=big", "log_extra_interval=2", "num_iterations=2", "metrics.names=[]"))
    assert ended.code == 3 and "Traceback" not in ended.out + ended.err
    assert "generate after 2 iterations failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.; the run" in ended.out
    assert "in out_of_memory" in (tmp_path / "output/big/train.log").read_text()


def test_it_is_skipped_by_the_settings(run_script, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = run_script("train.py", *words_for(data, "exp_id=off", "metrics.names=[]", "num_iterations=2"))
    assert ended.code == 0, ended.err
    assert not list((tmp_path / "output/off").glob("**/*.flac"))


def test_a_best_metric_that_nothing_measures_is_a_sentence(tmp_path):
    def told(val=("held",), **changes):
        problems = Problems()
        check_stages(FlowSolver, tiny_settings(tmp_path, "x", val=val, **changes), problems)
        return problems.sentences

    assert told() == told(best_metric="valid/loss") == told(best_metric="evaluate/onset_f1") == []
    assert "best_metric is 'evaluate/onset_f2' (did you mean 'evaluate/onset_f1'?)" in told(best_metric="evaluate/onset_f2")[0]
    assert "this run measures valid/loss" in told(best_metric="evaluate/DeSync")[0]
    assert "this run measures generate/latent_distance" in told(val=(), best_metric="evaluate/onset_f1")[0]
    assert "eval_interval is 0" in told(best_metric="evaluate/onset_f1", eval_interval=0)[0]
