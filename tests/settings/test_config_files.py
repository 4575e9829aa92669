"""Configuration files by others: they set this program's settings alone, and nothing of one that sets more reaches Hydra."""

import tomllib
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mmaudio.base.errors import Problems, UserError
from mmaudio.settings import compose
from mmaudio.settings.compose import read_command
from mmaudio.settings.config_files import check_config_files, read_plain
from mmaudio.settings.schema import EvalSettings, TrainSettings

CONFIG = Path(__file__).resolve().parents[2] / "config"
SOUND_MIX = "train: [owls]\nval: []\nowls: {tsv: o.tsv, memmap_dir: owls}\n"
RUNS = "{evil: {_target_: pickle.load}}"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def refusals(words: list[str], monkeypatch, *, cls=TrainSettings, name="train_config") -> list[str]:
    """The sentences that refuse a command line before anything is composed."""

    def no_compose(*_: object) -> None:
        raise AssertionError("Hydra was asked to compose")

    monkeypatch.setattr(compose, "_compose", no_compose)
    with pytest.raises(UserError) as caught:
        read_command(words, cls, CONFIG, name, lambda _: "signed", Problems())
    return list(caught.value.sentences)


MIXES = {  # text of data/mine.yaml → what the refusal names
    "global callbacks": (f"# @package _global_\nhydra:\n  callbacks: {RUNS}\n" + SOUND_MIX, "@package _global_"),
    "header without a space": ("#@package _global_\n" + SOUND_MIX, "@package _global_"),
    "header after a comment": ("\n# my birds\n#  @package  hydra\ncallbacks: {}\n", "@package hydra"),
    "hydra's node": (f"# @package hydra\ncallbacks: {RUNS}\n", "@package hydra"),
    "hydra in the mix": (f"hydra: {{callbacks: {RUNS}}}\n" + SOUND_MIX, "hydra"),
    "solver": ("# @package _global_\nsolver: {target: evil.Evil}\n" + SOUND_MIX, "@package _global_"),
    "solver in the mix": ("solver: {target: evil.Evil}\n" + SOUND_MIX, "solver"),
    "overrides callbacks": ("defaults: [{override /hydra/callbacks: evil}]\n" + SOUND_MIX, "override /hydra/callbacks: evil"),
    "adds callbacks": ("defaults: [{/hydra/callbacks@_global_.hydra.callbacks: evil}]\n" + SOUND_MIX, "hydra.callbacks"),
    "adds a solver": ("defaults: [{/solver@_global_.solver: evil}]\n" + SOUND_MIX, "solver"),
    "other folder": ("defaults: [../hydra/callbacks/evil]\n" + SOUND_MIX, "../hydra/callbacks/evil"),
    "other package": ("defaults: ['base@_global_.hydra']\n" + SOUND_MIX, "base@_global_.hydra"),
    "defaults of no list": ("defaults: {override /solver: evil}\n" + SOUND_MIX, "override /solver: evil"),
    "environment": ("owls: {tsv: '${oc.env:HOME}/o.tsv', memmap_dir: owls}\n", "owls.tsv"),
    "environment in a list": ("train: ['${oc.env:HOME}']\n", "train"),
    "decoded": ("owls: {tag: '${oc.decode:\"[1]\"}', tsv: a}\n", "owls.tag"),
    "nested name of a resolver": ("owls: {tag: '${${owls.tsv}:HOME}', tsv: oc.env}\n", "owls.tag"),
    "hydra's values": ("owls: {tag: '${hydra:runtime.cwd}'}\n", "owls.tag"),
    "hydra's node by reference": ("owls: {tag: '${hydra.runtime.cwd}'}\n", "owls.tag"),
    "created": ("owls: '${oc.create:\"{}\"}'\n", "owls"),
}


@pytest.mark.parametrize("what", MIXES)
def test_a_data_mix_sets_its_sources_alone(what, monkeypatch, tmp_path):
    text, named = MIXES[what]
    write(tmp_path, {"data/mine.yaml": text})
    sentences = refusals(["--config-dir", str(tmp_path), "data=mine"], monkeypatch)
    assert all(str(tmp_path / "data" / "mine.yaml") in sentence for sentence in sentences)
    assert any(named in sentence for sentence in sentences)


def test_what_a_mix_builds_on_is_looked_at_too(monkeypatch, tmp_path):
    write(tmp_path, {"data/mine.yaml": "defaults: [theirs]\n" + SOUND_MIX, "data/theirs.yaml": f"# @package hydra\ncallbacks: {RUNS}\n"})
    (sentence,) = refusals(["--config-dir", str(tmp_path), "data=mine"], monkeypatch)
    assert str(tmp_path / "data" / "theirs.yaml") in sentence


def test_sets_to_evaluate_on_and_solvers_set_their_group_alone(monkeypatch, tmp_path):
    for group, cls, name in (("eval_data", EvalSettings, "eval_config"), ("solver", TrainSettings, "train_config")):
        write(tmp_path, {f"{group}/mine.yaml": f"# @package hydra.callbacks\nevil: {RUNS}\n"})
        (sentence,) = refusals(["--config-dir", str(tmp_path), f"{group}=mine"], monkeypatch, cls=cls, name=name)
        assert f"a file of {group} sets settings of {group} alone" in sentence


def test_a_config_folder_brings_nothing_of_hydras(monkeypatch, tmp_path):
    for place in ("callbacks/evil", "launcher/basic", "job_logging/theirs"):  # the second would be used without being named
        folder = tmp_path / place.replace("/", "_")
        write(folder, {f"hydra/{place}.yaml": f"# @package _global_\nhydra: {{callbacks: {RUNS}}}\n"})
        for words in ([f"--config-dir={folder}"], [f"hydra.searchpath=[file://{folder}]"], [f"hydra.searchpath=['{folder}']", "seed=1"]):
            (sentence,) = refusals(words, monkeypatch)
            assert sentence.startswith(f"{folder}/hydra/{place}.yaml configures Hydra itself")
    write(tmp_path, {"hydra/a/b/evil.yaml": f"evil: {RUNS}\n"})
    (sentence,) = refusals(["--config-dir", str(tmp_path), "+hydra/a/b=evil"], monkeypatch)
    assert "configures Hydra itself" in sentence


def test_other_groups_set_our_settings_but_no_code(monkeypatch, tmp_path):
    write(tmp_path, {"trial/a.yaml": "# @package _global_\nhydra: {callbacks: {}}\nsolver: {target: evil.Evil}\n"})
    sentences = refusals(["--config-dir", str(tmp_path), "+trial=a"], monkeypatch)
    assert [sentence.split(";")[0].split(" sets ")[1] for sentence in sentences] == ["hydra", "solver"]
    write(tmp_path, {"trial/b.yaml": "# @package _global_\nbatch_size: 12\n"})
    check_config_files([CONFIG, tmp_path], "train_config", [("trial", "b")])


def test_the_file_a_command_starts_from(monkeypatch, tmp_path):
    start = "defaults: [base_config, {solver: flow}, {override hydra/job_logging: none}, {override hydra/hydra_logging: none}, _self_]\n"
    write(tmp_path, {"mine.yaml": start + "batch_size: 12\nhydra: {run: {dir: './output/${exp_id}'}}\n"})
    check_config_files([CONFIG, tmp_path], "mine", [])
    for text, named in (
        (f"hydra: {{callbacks: {RUNS}}}", "hydra.callbacks"),
        ("hydra: {job_logging: {handlers: {x: {(): os.system}}}}", "hydra.job_logging"),
        ("hydra: {searchpath: [file:///elsewhere]}", "hydra.searchpath"),
        ("hydra: ${other}", "hydra"),
        ("# @package hydra\ncallbacks: {}", "@package hydra"),
    ):
        write(tmp_path, {"mine.yaml": f"{text}\n" + start})
        sentences = refusals([f"--config-dir={tmp_path}", "--config-name=mine"], monkeypatch)
        assert len(sentences) == 1 and str(tmp_path / "mine.yaml") in sentences[0] and named in sentences[0]


def test_what_the_first_file_chooses_is_looked_at(monkeypatch, tmp_path):
    write(tmp_path, {"data/theirs.yaml": f"# @package hydra\ncallbacks: {RUNS}\n", "other.yaml": f"hydra: {{callbacks: {RUNS}}}\n"})
    for entry in ("data: theirs", "/data: theirs", "optional data: theirs", "override data: [base, theirs]", "'data': '${model}'"):
        write(tmp_path, {"mine.yaml": f"defaults: [base_config, {{{entry}}}]\n"})
        (sentence,) = refusals([f"--config-dir={tmp_path}", "--config-name=mine.yaml"], monkeypatch)
        assert str(tmp_path / "data" / "theirs.yaml") in sentence
    for entry, named in (("data/theirs", "data/theirs.yaml"), ("/other", "other.yaml"), ("{data@hydra.callbacks: base}", "mine.yaml")):
        write(tmp_path, {"mine.yaml": f"defaults: [base_config, {entry}]\n"})
        (sentence,) = refusals([f"--config-dir={tmp_path}", "--config-name=mine"], monkeypatch)
        assert str(tmp_path / named) in sentence


def test_files_of_ours_and_sound_ones_pass(tmp_path):
    for name in ("train_config", "eval_config"):
        check_config_files([CONFIG], name, [("data", "base"), ("solver", "flow"), ("eval_data", "base")])
    mix = "# @package data\ndefaults: [base, _self_]\nowls: {tsv: o.tsv, memmap_dir: '${.tsv}', repeat: '${vgg_oversample_rate}'}\n"
    write(tmp_path, {"data/mine.yaml": mix})
    check_config_files([CONFIG, tmp_path], "train_config", [("data", "mine")])
    assert read_plain(tmp_path / "data" / "mine.yaml")["owls"]["repeat"] == "${vgg_oversample_rate}"


@pytest.mark.parametrize(
    "text", ["- a\n", "a: [", "a: !!python/object/apply:os.system [ls]\n", "a: &x [*x]\n", "a: '${'\n", "a: 1\na: 2\n"]
)
def test_a_file_that_is_none_is_named(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        read_plain(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_plain(path)


def test_a_file_to_unpickle_is_refused():
    for words in (
        ["--experimental-rerun", "config.pickle", "exp_id=x"],
        ["--experimental-rerun=config.pickle"],
        ["--info=--experimental-rerun"],
    ):
        problems = Problems()
        command = read_command(words, TrainSettings, CONFIG, "train_config", lambda _: "signed", problems)
        assert len(problems.sentences) == 1 and "experimental-rerun" in problems.sentences[0] + words[0]
        assert not any("rerun" in word for word in command.argv)


def test_folders_are_those_that_were_looked_at(monkeypatch, tmp_path):
    write(tmp_path, {"mine/data/mine.yaml": SOUND_MIX})
    monkeypatch.chdir(tmp_path)
    command = read_command(["--config-dir", "mine", "data=mine"], TrainSettings, CONFIG, "train_config", lambda _: "signed", Problems())
    assert command.argv[:2] == ["--config-dir", str(tmp_path / "mine")]


def test_the_oldest_hydra_allowed_refuses_to_unpickle():
    project = tomllib.loads((CONFIG.parent / "pyproject.toml").read_text())["project"]
    (wanted,) = (each for each in project["dependencies"] if each.startswith("hydra-core"))
    assert tuple(map(int, wanted.removeprefix("hydra-core>=").split("."))) >= (1, 3, 6)
    for target in ("pickle.load", "os.system", "builtins.exec"):
        with pytest.raises(InstantiationException, match="blocklisted"):
            instantiate({"_target_": target})
