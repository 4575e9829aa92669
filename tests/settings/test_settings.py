"""Settings: the yaml files against the dataclasses, and command lines against what they mean."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from mmaudio.base.errors import Problems
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.runs.folder import SCORES_ENDING
from mmaudio.settings import compose as compose_module
from mmaudio.settings.compose import WITHOUT_EFFECT, ComposedCommand, read_command, settings_from
from mmaudio.settings.conversion import build_settings, dotted_keys, field_types, setting
from mmaudio.settings.data_sources import LONGEST_OF_A_SET, PRESETS, SOURCE_KEYS_WITHOUT_EFFECT, SourceSettings
from mmaudio.settings.overrides import as_value, quote
from mmaudio.settings.schema import LONGEST_OF_A_RUN, EvalSettings, TrainSettings

CONFIG = Path(__file__).resolve().parents[2] / "config"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def understand(*words: str) -> tuple[ComposedCommand, list[str]]:
    """A command line of train.py, and the sentences said about it."""
    problems = Problems()
    command = read_command(words, TrainSettings, CONFIG, "train_config", lambda settings: "signed", problems)
    return command, problems.sentences


def sound(*words: str) -> TrainSettings:
    command, sentences = understand(*words)
    assert sentences == []
    return command.settings


def test_yaml_says_what_the_dataclasses_say():
    composed, bare = sound("exp_id=x"), TrainSettings()
    for key, _ in dotted_keys(TrainSettings):
        if key not in ("exp_id", *(f"data.{name}" for name in ("sources", "train", "val", "test"))):
            mine, yaml = bare, composed
            for part in key.split("."):
                mine, yaml = getattr(mine, part), getattr(yaml, part)
            assert mine == yaml, key
    keys = set(OmegaConf.load(CONFIG / "base_config.yaml")) | set(OmegaConf.load(CONFIG / "train_config.yaml"))
    assert keys - {"defaults", "hydra"} == {key.split(".")[0] for key, _ in dotted_keys(TrainSettings)} - {"data", "solver"}


@pytest.mark.parametrize("cls", [TrainSettings, EvalSettings])
def test_the_value_a_setting_was_born_with_stays(cls):
    """Ids of runs leave such values out, and folders of before a setting was there are filled with them: a default changes in config/."""
    for key, value in json.loads((GOLDEN / "neutral_values.json").read_text())[cls.__name__].items():
        found = cls()
        for part in key.split("."):
            found = getattr(found, part)
        assert json.loads(json.dumps(found, default=dict)) == value, key


def understand_evaluation(*words: str) -> tuple[ComposedCommand, list[str]]:
    """A command line of evaluate.py, and the sentences said about it."""
    problems = Problems()
    command = read_command(words, EvalSettings, CONFIG, "eval_config", lambda settings: "signed", problems)
    return command, problems.sentences


def test_settings_of_an_evaluation():
    command, sentences = understand_evaluation()
    assert sentences == []
    settings, bare = command.settings, EvalSettings()
    assert (settings.exp_id, settings.batch_size, settings.dataset, settings.metrics) == ("small_16k", 16, None, bare.metrics)
    assert (settings.eval_data["VGGSound"].kind, settings.eval_data["AudioCaps"].gt_cache) == ("vggsound", None)
    keys = set(OmegaConf.load(CONFIG / "base_config.yaml")) | set(OmegaConf.load(CONFIG / "eval_config.yaml"))
    assert keys - {"defaults", "hydra"} == {key.split(".")[0] for key, _ in dotted_keys(EvalSettings)} - {"data", "eval_data"}
    own, sentences = understand_evaluation(
        "eval_data.birds.tsv=007", "dataset=birds", "metrics.places.passt=x.pt", "metrics.names=[FD-PASST]"
    )
    assert sentences == []
    assert (own.settings.eval_data["birds"].tsv, own.settings.metrics.places) == ("007", {"passt": "x.pt"})
    assert own.given == ("eval_data.birds.tsv", "dataset", "metrics.places.passt", "metrics.names")
    wrong = understand_evaluation("eval_data.birds.cvs_path=a", "eval_data.birds.kind=tabel", "datset=a")[1]
    assert any("unknown setting eval_data.birds.cvs_path (did you mean 'csv_path'?)" in sentence for sentence in wrong)
    assert any("eval_data.birds.kind is 'tabel'" in sentence for sentence in wrong)
    assert any("unknown setting datset (did you mean 'dataset'?)" in sentence for sentence in wrong)


def test_published_defaults():
    settings = sound()
    assert (settings.model, settings.batch_size, settings.num_iterations, settings.seed) == ("small_16k", 512, 300000, 14159265)
    assert (settings.exp_id, settings.amp, settings.compile) == ("signed", "auto", "auto")
    assert settings.lr_schedule_steps == (240000, 270000)
    assert settings.data.train == ("ExtractedVGG", "AudioCaps", "AudioSetSL", "BBCSound", "FreeSound", "Clotho")
    assert settings.data.sources["ExtractedVGG"].repeat == 5
    assert sound("vgg_oversample_rate=3").data.sources["ExtractedVGG"].repeat == 3
    assert settings.data.sources["ExtractedVGG_val"].output_subdir == "val"
    assert settings.data.sources["VGGSound"].root == "../data/video"


TEXTS = ("1e5", "00008004", "None", "true", "a,b", "it's", 'say "x"', "back\\slash\\", "a b", "[x]", "{y}", "é🎈", "=", "#")


def test_text_stays_text():
    sources = sound(*(f"data.s{place}.tsv={text}" for place, text in enumerate(TEXTS))).data.sources
    assert tuple(sources[f"s{place}"].tsv for place in range(len(TEXTS))) == TEXTS
    for text in TEXTS[:3]:
        assert sound(f"exp_id={text}").exp_id == text


def test_quoting():
    assert quote("it's") == "'it\\'s'"
    assert as_value("[1e5, 'b', c d]", tuple[str, ...]) == "['1e5','b','c d']"
    assert as_value("null", str | None) == "null"
    assert as_value("1e5", float) == "1e5"
    assert sound("exp_id='${model}'").exp_id == "small_16k"
    assert sound("exp_id=${model}").exp_id == "small_16k"


def test_run_dir_follows_the_name():
    command, _ = understand("exp_id=1e5")
    assert command.run_dir == Path("output/1e5")
    assert understand("exp_id=a", "hydra.run.dir=/elsewhere")[0].run_dir == Path("/elsewhere")
    assert "exp_id='signed'" in understand()[0].argv


def test_debug_is_short_unless_told_otherwise():
    settings = sound("debug=True")
    assert (settings.num_iterations, settings.log_text_interval, settings.log_extra_interval) == (20, 1, 1)
    assert sound("debug=True", "num_iterations=3").num_iterations == 3


def test_lists_follow_the_flags_and_give_way_to_explicit_ones():
    example = sound("example_train=True").data
    assert (example.train, example.val, example.test) == (("Example_video", "Example_audio"), ("Example_video",), ("Example_video",))
    assert sound("example_train=True", "data.train=[Example_audio]").data.train == ("Example_audio",)
    assert sound("example_train=True", "data.train=[Example_audio]").data.val == ("Example_video",)
    assert sound("mini_train=True").data.train == ("ExtractedVGG_val", "AudioCaps")
    assert all(preset in OmegaConf.load(CONFIG / "data" / "base.yaml") for preset in PRESETS)


def test_own_source_on_the_command_line():
    command, sentences = understand("data.birds.tsv=b.tsv", "data.birds.memmap_dir=b", "data.train=[birds]")
    assert sentences == []
    assert command.settings.data.train == ("birds",)
    assert command.settings.data.val == ()  # the default one is not there, and nobody asked for it
    assert any("no val data" in note for note in command.notes)
    assert understand("data.birds={tsv: b.tsv, memmap_dir: b, repeat: 2}")[0].settings.data.sources["birds"].repeat == 2


def test_own_file_of_sources(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("train: [owls]\nval: []\nowls: {tsv: o.tsv, memmap_dir: owls, repeat: 3}\n")
    settings = sound("--config-dir", str(tmp_path), "data=mine")
    assert settings.data.train == ("owls",)
    assert settings.data.sources["owls"].repeat == 3
    (tmp_path / "data" / "more.yaml").write_text("defaults: [base]\ntrain: [owls]\nowls: {tsv: o.tsv, memmap_dir: owls}\n")
    assert "AudioCaps" in sound(f"--config-dir={tmp_path}", "data=more").data.sources
    _, sentences = understand("--config-dir", str(tmp_path), "data=mine", "example_train=True")
    assert sentences == ["example_train is True, but the chosen data has no lists of that name; give data.train and data.val instead"]


def test_all_mistakes_at_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("train: [owl]\nowls: {tsv: o.tsv, memmapdir: owls}\nval: owls\n")
    _, sentences = understand(
        "--config-dir", str(tmp_path), "data=mine", "batch_siz=3", "lr_schedule=stp", "num_iterations=abc", "ema.sigma_rel=3",
        "seed=[", "--batch_size", "foo", "learning_rate=0", "amp=maybe", "data.x.tvs=1", "ema.sigma_rels=[0.05,2]",
    )  # fmt: skip
    text = "\n".join(sentences)
    for part in (
        "unknown setting batch_siz (did you mean 'batch_size'?)",
        "lr_schedule is 'stp'; want step or constant or poly (did you mean 'step'?)",
        "num_iterations is 'abc'; want a whole number, at least 1",
        "unknown setting ema.sigma_rel (did you mean 'ema.sigma_rels'?)",
        "seed=[ cannot be read",
        "unknown option --batch_size; settings are given without dashes: batch_size=VALUE",
        "'foo' is no setting",
        "learning_rate is 0; want a number, more than 0",
        "amp is 'maybe'; want True or False or auto",
        "unknown setting data.x.tvs (did you mean 'tsv'?)",
        "ema.sigma_rels is [0.05, 2]; want a list, each item a number, more than 0 and at most 0.28",
        "unknown setting data.owls.memmapdir (did you mean 'memmap_dir'?)",
        "data.val is 'owls'; want a list, each item text",
        "data.train names 'owl', but data has no such source (did you mean 'owls'?)",
    ):
        assert part in text
    assert len(sentences) == 14


def test_more_mistakes():
    assert understand("data=bas")[1][0].startswith("data=bas: no bas.yaml in ")
    assert understand("exp_id=a/b")[1] == ["exp_id is 'a/b'; want a plain name without slashes, not '.' or '..'"]
    assert understand("exp_id=")[1] == ["exp_id is ''; want a plain name without slashes, not '.' or '..'"]
    assert "both say what to train on" in understand("mini_train=True", "example_train=True")[1][0]
    assert understand("-m", "seed=1")[1] == ["-m: one command trains one model; give each combination its own command"]
    assert understand("--config-dir", "/nowhere")[1] == ["no config folder at /nowhere"]
    assert "does not compose" in understand("hydra.foo=1")[1][0]
    assert "does not compose" in understand("weights=${nothing}")[1][0]
    assert understand("data.train=[VGGSound]")[1][0].startswith("data.train names 'VGGSound', which has no store")


NO_NAMES = ("", "/abs", "../x", "a/../b", ".", "a//b", "a/", "nul\0byte", "x" * 256, "é" * 130)


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_of_folders_that_are_none_are_refused(name):
    source = {"tsv": "a.tsv", "memmap_dir": "a"}
    for key, data in (("tag", {"birds": source | {"tag": name}}), ("output_subdir", {"birds": source | {"output_subdir": name}})):
        problems = Problems()
        settings_from(TrainSettings, {"data": data, "exp_id": "x"}, problems)
        assert len(problems.sentences) == 1 and f"data.birds.{key} is " in problems.sentences[0]
    for cls, plain, what in (
        (TrainSettings, {"exp_id": name}, "exp_id"),
        (TrainSettings, {"data": {name: source}}, "the name of a source of data"),
        (EvalSettings, {"eval_data": {name: {"tsv": "a.tsv"}}}, "the name of a set of eval_data"),
        (EvalSettings, {"exp_id": name}, "exp_id"),
        (EvalSettings, {"dataset": name}, "dataset"),
        (EvalSettings, {"output_name": name}, "output_name"),
    ):
        problems = Problems()
        settings_from(cls, plain, problems)
        assert len(problems.sentences) == 1 and problems.sentences[0].startswith(f"{what} is ")


def test_names_that_leave_room_for_their_longest_file_pass():
    problems, longest = Problems(), "x" * (255 - len(LONGEST_OF_A_RUN))
    settings_from(TrainSettings, {"exp_id": longest, "data": {"a b": {"tag": "x" * 235, "output_subdir": "held/out"}}}, problems)
    settings_from(EvalSettings, {"exp_id": "x" * 255, "dataset": "vggsound-mine", "output_name": "é.1"}, problems)
    assert problems.sentences == []
    settings_from(TrainSettings, {"exp_id": longest + "x", "data": {"a": {"tag": "x" * 236}}}, problems)
    assert len(problems.sentences) == 2 and all("1 bytes too long" in sentence for sentence in problems.sentences)
    files, start = RunFiles(Path(), "x"), len("x")
    names = (files.weights_shadow, files.checkpoint_shadow, files.checkpoint_copy(10**9), files.ema_final)
    assert max(len(f"{path.name}.json") for path in names) - start <= len(LONGEST_OF_A_RUN)
    assert f"-{SCORES_ENDING}" == LONGEST_OF_A_SET


def test_a_name_that_is_none_is_replaced():
    for word in ("exp_id=", "exp_id=a/b", "~exp_id", "weights=${nothing}"):
        command, sentences = understand(word)
        assert command.settings.name() == "signed"
        assert len(sentences) == 1
    command, sentences = understand("exp_id=null")
    assert sentences == []
    assert command.run_dir == Path("output/signed")
    assert [word for word in command.argv if "exp_id" in word] == ["exp_id='signed'"]


def test_keys_without_effect_are_keys_and_are_told():
    keys = {key for key, _ in dotted_keys(TrainSettings)}
    assert set(WITHOUT_EFFECT) <= keys
    assert set(SOURCE_KEYS_WITHOUT_EFFECT) <= set(field_types(SourceSettings))
    assert understand("seed=1", "data.birds.repeat=2")[0].notes == ()
    for key, value in (("pin_memory", "True"), ("data.birds.fps", "8")):
        (note,) = understand(f"{key}={value}")[0].notes
        assert note.startswith(f"{key} has no effect in this version: ")


def test_flags_and_settings_in_any_order():
    command, sentences = understand("seed=1", "--cfg", "job", "exp_id=x", "--resolve")
    assert sentences == []
    assert command.only_shows
    assert command.argv == ["--cfg", "job", "--resolve", "seed=1", "exp_id='x'"]


RECORDED = (
    ["exp_id=x", "seed=1"],
    ["debug=True", "example_train=True", "device=cpu"],
    ["data.train=[mine]", "data.mine.tsv=m.tsv", "data.mine.memmap_dir=m", "exp_id=it's"],
    ["exp_id=1e5", "hydra.output_subdir=here", "+data.a.tsv=b", "ema.enable=False"],
)


@pytest.mark.parametrize("words", RECORDED)
def test_the_record_is_as_hydra_itself_writes_it(words, tmp_path, monkeypatch):
    command, _ = understand(*words, f"hydra.run.dir={tmp_path}/ours")
    command.write_record()
    monkeypatch.setattr(sys, "argv", ["train.py", *command.argv, f"hydra.run.dir={tmp_path}/hydras"])
    hydra.main(version_base="1.3", config_path=str(CONFIG), config_name="train_config")(lambda _: None)()
    for name in ("config.yaml", "overrides.yaml"):
        ours, hydras = (next((tmp_path / folder).glob(f"*/{name}")).read_text() for folder in ("ours", "hydras"))
        assert ours == hydras


def test_a_command_is_composed_once_and_built_once(monkeypatch):
    calls = []
    for module, name in ((compose_module, "compose"), (compose_module, "build_settings")):
        monkeypatch.setattr(module, name, counted(getattr(module, name), calls))
    understand("debug=True", "example_train=True")
    assert sorted(calls) == ["build_settings", "compose"]
    understand_evaluation("exp_id=x")
    assert sorted(calls) == ["build_settings", "build_settings", "compose", "compose"]


def counted(function, calls):
    return lambda *args, **kwargs: calls.append(function.__name__) or function(*args, **kwargs)


@dataclass(frozen=True)
class Toy:
    count: int = setting(1, low=1, high=5)
    ratio: float = setting(0.5)
    name: str | None = setting(None)
    flag: bool = setting(False)


def test_values_keep_their_kind():
    problems = Problems()
    assert build_settings(Toy, {"count": 3.0, "ratio": 1, "flag": True, "name": "1"}, "", problems) == Toy(3, 1.0, "1", True)
    assert problems.sentences == []
    build_settings(Toy, {"count": 2.5, "ratio": float("nan"), "flag": 1, "name": 7}, "toy.", problems)
    assert problems.sentences == [
        "toy.count is 2.5; want a whole number, at least 1 and at most 5",
        "toy.ratio is nan; want a number",
        "toy.name is 7; want text or null; put it in quotes",
        "toy.flag is 1; want True or False",
    ]
    problems = Problems()
    assert build_settings(Toy, [1], "toy.", problems) == Toy()
    assert problems.sentences == ["toy is [1]; want a group of settings: count, ratio, name, flag"]
