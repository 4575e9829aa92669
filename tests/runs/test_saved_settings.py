"""The settings that a run keeps, read by others than the run: text as it stands, whoever wrote it."""

import pytest

from mmaudio.base.errors import Problems, UserError
from mmaudio.evaluation.evaluated_model import weights_of
from mmaudio.runs.saved_settings import completed_by_run, read_settings
from mmaudio.settings.compose import settings_from
from mmaudio.settings.schema import EvalSettings

HANDED_OVER = """
exp_id: ${oc.env:HOME}
model: nano_16k
vae_16k_ckpt: ${oc.decode:"[1]"}
data:
  test: [birds]
  birds: {tsv: '${oc.env:HOME}', memmap_dir: '${model}', tag: '${oc.env:USER}'}
"""


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/secret")
    monkeypatch.setenv("USER", "secret")
    (tmp_path / "config.yaml").write_text(HANDED_OVER)
    return tmp_path


def test_references_are_text(run_dir):
    problems = Problems()
    trained = read_settings(run_dir, problems)
    evaluated = settings_from(EvalSettings, completed_by_run(run_dir, {"exp_id": "birds", "dataset": None}, []), problems)
    assert problems.sentences == []
    assert trained.exp_id == "${oc.env:HOME}"
    for settings in (trained, evaluated):
        birds = settings.data.sources["birds"]
        assert (birds.tsv, birds.memmap_dir, birds.tag) == ("${oc.env:HOME}", "${model}", "${oc.env:USER}")
        assert settings.vae_16k_ckpt == '${oc.decode:"[1]"}'
    with pytest.raises(UserError) as caught:
        weights_of(evaluated, run_dir)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", ["seed: ${oc.env:HOME}", "data: {birds: {tag: ../../x}}", "data: {../x: {tag: y}}", "exp_id: ../x"])
def test_settings_that_cannot_be_are_told(run_dir, line):
    problems = Problems()
    (run_dir / "config.yaml").write_text(line)
    read_settings(run_dir, problems)
    assert len(problems.sentences) == 1


def test_a_run_reads_no_files_of_another_folder(run_dir):
    folder = run_dir / "run"
    folder.mkdir()
    (run_dir / "x_ema_final.pth").write_bytes(b"")
    (folder / "config.yaml").write_text("exp_id: ../x\nmodel: nano_16k\n")
    settings = settings_from(EvalSettings, completed_by_run(folder, {"exp_id": "run"}, []), Problems())
    with pytest.raises(UserError, match=r"exp_id in .* is '\.\./x'; want a plain name"):
        weights_of(settings, folder)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "a: !!python/object/apply:os.system [ls]\n"])
def test_a_file_that_holds_no_settings_is_named(run_dir, text):
    (run_dir / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=str(run_dir / "config.yaml")):
        read_settings(run_dir, Problems())
