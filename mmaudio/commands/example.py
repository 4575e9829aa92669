"""`mmaudio example`: the whole way on made-up data, by the commands a user would type, ending in a summary and a page."""

import argparse
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.files import write_json
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.tables import read_table

log = logging.getLogger(__name__)

EXP_ID = "example"
DATA = Path("training/example_learning")
STORES = Path("training/example_learning_stores")
RUN = Path("output") / EXP_ID
DURATION_S = 2.0
CLIP_LENGTH_S = 2.1  # of the recordings: a little more than a training clip
GUIDANCE = 2.0
KIB_PER_GB = 1e9 / 1024


@dataclass(frozen=True)
class Stage:
    """One command of the way: what the summary calls it, and its words after the interpreter."""

    name: str
    words: tuple[str, ...]


def stages(num_iterations: int) -> list[Stage]:
    """Every command, in order."""
    lite = ("--device", "cpu", "--backend", "lite", "--duration", str(DURATION_S))
    video = ("training/extract_video_training_latents.py", *lite, "--output_dir", str(STORES))
    weights = ("--weights", str(RUN / f"{EXP_ID}_ema_final.pth"), "--device", "cpu", "--cfg_strength", str(GUIDANCE))
    make = ("-m", "mmaudio.commands.main")
    sources = [
        f"data.{name}.{key}={value}"
        for name in ("learn_video", "learn_audio", "learn_heldout")
        for key, value in (("tsv", f"{STORES}/{name}.tsv"), ("memmap_dir", f"{STORES}/{name}"))
    ]
    train = (
        *("train.py", f"exp_id={EXP_ID}", "model=nano_16k", "device=cpu", "backend=lite", f"duration_s={DURATION_S}", *sources),
        *("data.train=[learn_video,learn_audio]", "data.val=[learn_heldout]", "data.test=[learn_heldout]"),
        *("batch_size=16", f"num_iterations={num_iterations}", "learning_rate=1e-3", "linear_warmup_steps=100"),
        *(f"lr_schedule_steps=[{num_iterations * 7 // 10},{num_iterations * 9 // 10}]", "lr_schedule_gamma=0.3"),
        *("log_text_interval=50", "val_interval=300", "save_weights_interval=1000", "save_checkpoint_interval=1000"),
        "ema.checkpoint_every=500",
    )

    def sample_and_score(name: str, captions: str) -> list[Stage]:
        folder = RUN / "samples" / name
        generate = (
            *make,
            "generate",
            *weights,
            "--video",
            str(DATA / "heldout"),
            "--captions",
            str(DATA / captions),
            "--output",
            str(folder),
        )
        score = ("--generated", str(folder), "--reference", str(DATA / "heldout"), "--duration", str(DURATION_S))
        output = ("--captions", str(DATA / captions), "--output", str(RUN / f"scores_{name}.json"))
        return [Stage(f"generate_{name}", generate), Stage(f"score_{name}", (*make, "evaluate", *score, *output))]

    clips = str(STORES / "clips.tsv")
    partition = ("--data_dir", str(DATA / "audio"), "--output_dir", clips, "--clip_length", str(CLIP_LENGTH_S))
    audio = ("--data_dir", str(DATA / "audio"), "--captions_tsv", str(DATA / "audio.tsv"), "--clips_tsv", clips)
    return [
        Stage("make_media", ("training/make_example_data.py", "--learning_set", str(DATA))),
        Stage("partition", ("training/partition_clips.py", *partition)),
        Stage(
            "extract_audio",
            ("training/extract_audio_training_latents.py", *lite, *audio)
            + ("--latent_dir", str(STORES / "audio-parts"), "--output_dir", str(STORES / "learn_audio")),
        ),
        *(
            Stage(
                f"extract_{split}",
                (*video, "--data_dir", str(DATA / split), "--tsv", str(DATA / f"{split}.tsv"))
                + ("--name", name, "--latent_dir", str(STORES / f"{split}-parts")),
            )
            for split, name in (("train", "learn_video"), ("heldout", "learn_heldout"))
        ),
        Stage("train", train),
        *sample_and_score("right", "heldout.tsv"),
        *sample_and_score("wrong", "heldout_wrong.tsv"),
    ]


def _run(stage: Stage) -> float:
    """Run one command to its end; the seconds it took. Raises: UserError naming the command that failed."""
    words = [sys.executable, *stage.words]
    log.info("=== %s: python %s", stage.name, " ".join(stage.words))
    began = time.monotonic()
    code = subprocess.run(words, check=False).returncode
    if code:
        raise UserError(f"the example stopped: {stage.name} ended with exit code {code}; its command was: {' '.join(words)}")
    return time.monotonic() - began


def _counts() -> dict[str, dict[str, int]]:
    """Clips seen, kept and rejected by each stage, from the tables the stages left."""

    def rows(path: Path) -> int:
        return len(read_table(path).rows) if path.is_file() else 0

    def counted(kept: Path, failed: Path) -> dict[str, int]:
        return {"seen": rows(kept) + rows(failed), "kept": rows(kept), "rejected": rows(failed)}

    return {
        "partition": counted(STORES / "clips.tsv", STORES / "clips.failed.tsv"),
        "extract_audio": counted(STORES / "learn_audio.tsv", STORES / "learn_audio.failed.tsv"),
        "extract_train": counted(STORES / "learn_video.tsv", STORES / "learn_video.failed.tsv"),
        "extract_heldout": counted(STORES / "learn_heldout.tsv", STORES / "learn_heldout.failed.tsv"),
    }


def _losses() -> list[tuple[int, float]]:
    """(steps done, validation loss), in order."""
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    return sorted((line["steps_done"], line["valid/loss"]) for line in lines if "valid/loss" in line)


def summarise(wall_s: dict[str, float], page: Path) -> dict[str, Any]:
    """Everything the example measured, ready for JSON."""
    right, wrong = (json.loads((RUN / f"scores_{name}.json").read_text()) for name in ("right", "wrong"))
    losses = _losses()
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "clips": _counts(),
        "val_loss": {"first": losses[0][1], "last": losses[-1][1]},
        "onset_f1": {key: right["onset_f1"][key] for key in ("generated", "shuffled", "interval")},
        "caption": {"right": right["spectral_distance"]["mean"], "wrong": wrong["spectral_distance"]["mean"], "unit": "dB"},
        "wall_s": {**{name: round(seconds, 1) for name, seconds in wall_s.items()}, "total": round(sum(wall_s.values()), 1)},
        "peak_memory_gb": round(peak_kib / KIB_PER_GB, 2),
        "page": str(page.resolve()),
    }


def main(argv: Sequence[str]) -> int:
    parser: argparse.ArgumentParser = options_parser("mmaudio example", "The whole way on made-up data.", "mmaudio example")
    parser.add_argument("--num_iterations", type=int, default=1500, help="training steps (default 1500)")
    problems = Problems()
    options = parse_options(parser, argv, problems)
    if not Path("train.py").is_file():
        problems.add(f"train.py is not in {os.getcwd()}; run the example from the root of the repository")
    problems.raise_any()
    start_logging()
    shutil.rmtree(RUN, ignore_errors=True)  # the example is always trained anew; its folder is nobody's run
    wall_s = {stage.name: _run(stage) for stage in stages(options.num_iterations)}
    page = RUN / "report" / "index.html"
    report = ("report", str(RUN), "--samples", str(RUN / "samples" / "right"), "--reference", str(DATA / "heldout"))
    wall_s["report"] = _run(Stage("report", ("-m", "mmaudio.commands.main", *report, "--scores", str(RUN / "scores_right.json"))))
    summary = summarise(wall_s, page)
    write_json(RUN / "summary.json", summary)
    print(json.dumps(summary, indent=2))
    return 0
