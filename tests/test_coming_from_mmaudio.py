"""docs/coming_from_mmaudio.md: what it says is ours can be imported, its settings are understood.

Its shell commands are read in test_docs.py and run in test_docs_run.py, as are its two Python scripts.
"""

import importlib
import re

import pytest

from mmaudio.base.errors import Problems
from mmaudio.settings.compose import CONFIG_DIR, read_command
from mmaudio.settings.schema import EvalSettings, TrainSettings
from tests.docs_pages import DOCS, spans

PAGE = DOCS / "coming_from_mmaudio.md"
PUBLISHED_KEYS = {  # training.md section 10 of the published system's interface: keys of its three files, with their defaults
    "base": """model=small_16k exp_id=default debug=False enable_email=False cudnn_benchmark=True compile=True amp=True weights=null
        checkpoint=null seed=14159265 num_workers=10 pin_memory=False data_dim.text_seq_len=77 data_dim.clip_dim=1024 data_dim.sync_dim=768
        data_dim.text_dim=1024 ema.enable=True ema.sigma_rels=[0.05,0.1] ema.update_every=1 ema.checkpoint_every=5000
        ema.default_output_sigma=0.05 sampling.mean=0.0 sampling.scale=1.0 sampling.min_sigma=0.0 sampling.method=euler
        sampling.num_steps=25 null_condition_probability=0.1 cfg_strength=4.5 vae_16k_ckpt=./ext_weights/v1-16.pth
        vae_44k_ckpt=./ext_weights/v1-44.pth bigvgan_vocoder_ckpt=./ext_weights/best_netG.pt
        synchformer_ckpt=./ext_weights/synchformer_state_dict.pth""",
    "train": """mini_train=False example_train=False enable_grad_scaler=False vgg_oversample_rate=5 log_text_interval=200
        log_extra_interval=20000 val_interval=5000 eval_interval=20000 save_eval_interval=40000 save_weights_interval=10000
        save_checkpoint_interval=10000 save_copy_iterations=[] batch_size=512 eval_batch_size=256 num_iterations=300000
        learning_rate=1.0e-4 linear_warmup_steps=1000 lr_schedule=step lr_schedule_steps=[240000,270000] lr_schedule_gamma=0.1
        clip_grad_norm=1.0 weight_decay=1.0e-6 ema.start=0""",
    "eval": "dataset=audiocaps duration_s=8.0 batch_size=16 output_name=null",
}


def names():
    """Every dotted name of ours on the page, `{a, b}` opened up."""
    for span in spans(PAGE):
        for stem, several in re.findall(r"(mmaudio(?:\.\w+)+)(?:\.\{([^}]*)\})?", span):
            yield from [f"{stem}.{name.strip()}" for name in several.split(",")] if several else [stem]


@pytest.mark.parametrize("name", sorted(set(names())))
def test_what_stands_for_an_import_is_there(name):
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("cls", "config", "groups"), [(TrainSettings, "train_config", ("base", "train")), (EvalSettings, "eval_config", ("base", "eval"))]
)
def test_the_published_settings_are_understood(cls, config, groups):
    problems = Problems()
    words = [word for group in groups for word in PUBLISHED_KEYS[group].split()]
    command = read_command(words, cls, CONFIG_DIR, config, lambda _: "a_run", problems)
    assert problems.sentences == []
    assert command.settings.exp_id == "default"


@pytest.mark.parametrize("missing", ["large_44k_v2", "small_16k"])
def test_a_published_network_that_is_not_here_is_one_sentence(run_command, monkeypatch, tmp_path, missing):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    ended = run_command("generate", "--variant", missing, "--duration=8", "--prompt", "rain", "--output", "output", "--device", "cpu")
    assert ended.code == 2
    said = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(said) >= 1 and missing in said[0], ended.err


def test_the_published_evaluation_asks_for_its_data(run_script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ("duration_s=8", "dataset=vggsound", "model=small_16k", "num_workers=8", "device=cpu")
    ended = run_script("evaluate.py", *words)
    assert ended.code == 2
    assert "../data/vggsound.csv" in ended.err
