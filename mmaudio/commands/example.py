"""`mmaudio example`: the whole way on made-up data, by the commands a user would type, ending in a summary and a page."""

import argparse
import json
import logging
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.files.atomic import write_json
from mmaudio.files.locks import hold_target
from mmaudio.files.owned_files import check_made, write_record
from mmaudio.files.ownership import MARK_KEY, aside_path, at_end_of_links, fits, mark_of, read_mark
from mmaudio.files.tables import read_table
from mmaudio.media.synthetic import LearningSet, make_guide_example, make_learning_set
from mmaudio.runs.folder import METRICS_FILE

log = logging.getLogger(__name__)
EXP_ID = "example"
DATA = Path("training/example_learning")
STORES = Path("training/example_learning_stores")
RUN = Path("output") / EXP_ID
RECORD_FILE, KIND, BEGUN = "example.json", "example", "begun"  # in the run's folder: what says that it is the example's
DURATION_S = 2.0
CLIP_LENGTH_S = 2.1  # of the recordings: a little more than a training clip
GUIDANCE = 2.0
ROWS_ON_THE_WAY = 16  # held-out rows that are sounded and scored while training
MMAUDIO = "-m mmaudio"
KIB_PER_GB = 1e9 / 1024
COUNTS = ("num_train", "num_heldout", "num_audio")  # of the learning set: how much there is to learn from


def _scores(name: str) -> Path:
    return RUN / f"scores_{name}.json"


def commands(options: argparse.Namespace) -> dict[str, str]:
    """Every stage's name and command, in order, as a user would type it after `python`."""
    num_iterations = options.num_iterations
    media = " ".join(f"--{name} {getattr(options, name)}" for name in COUNTS)
    lite = f"--device cpu --backend lite --duration {DURATION_S}"
    sources = " ".join(
        f"data.{name}.tsv={STORES}/{name}.tsv data.{name}.memmap_dir={STORES}/{name}"
        for name in ("learn_video", "learn_audio", "learn_heldout")
    )
    first, second = num_iterations * 6 // 10, num_iterations * 8 // 10
    schedule = f"learning_rate=1e-3 linear_warmup_steps=100 lr_schedule_gamma=0.3 lr_schedule_steps=[{first},{second}]"
    intervals = "log_text_interval=50 val_interval=300 save_weights_interval=1000 save_checkpoint_interval=1000 ema.checkpoint_every=500"
    heard = f"data.learn_heldout.root={DATA}/heldout eval_interval={num_iterations // 3} evaluate.max_rows={ROWS_ON_THE_WAY}"

    def extract_video(split: str, name: str) -> str:
        data = f"--data_dir {DATA}/{split} --tsv {DATA}/{split}.tsv --name {name}"
        return f"{MMAUDIO} extract video {data} --latent_dir {STORES}/{split}-parts --output_dir {STORES} {lite}"

    def generate(name: str, captions: str) -> str:
        model = f"--weights {RUN}/{EXP_ID}_ema_final.pth --device cpu --cfg_strength {GUIDANCE}"
        return f"{MMAUDIO} generate {model} --video {DATA}/heldout --captions {DATA}/{captions} --output {RUN}/samples/{name}"

    def score(name: str, captions: str) -> str:
        real = f"--reference {DATA}/heldout --captions {DATA}/{captions} --duration {DURATION_S}"
        return f"{MMAUDIO} evaluate --generated {RUN}/samples/{name} {real} --output {_scores(name)}"

    return {
        "make_media": f"{MMAUDIO} example media --learning_set {DATA} {media}",
        "partition": f"{MMAUDIO} partition --data_dir {DATA}/audio --output_dir {STORES}/clips.tsv --clip_length {CLIP_LENGTH_S}",
        "extract_audio": f"{MMAUDIO} extract audio --data_dir {DATA}/audio --captions_tsv {DATA}/audio.tsv"
        f" --clips_tsv {STORES}/clips.tsv --latent_dir {STORES}/audio-parts --output_dir {STORES}/learn_audio {lite}",
        "extract_train": extract_video("train", "learn_video"),
        "extract_heldout": extract_video("heldout", "learn_heldout"),
        "train": f"{MMAUDIO} train exp_id={EXP_ID} model=nano_16k device=cpu backend=lite duration_s={DURATION_S} {sources}"
        f" data.train=[learn_video,learn_audio] data.val=[learn_heldout] data.test=[learn_heldout]"
        f" batch_size=16 num_iterations={num_iterations} {schedule} {intervals} {heard} evaluate.test=False cfg_strength={GUIDANCE}",
        "generate_right": generate("right", "heldout.tsv"),
        "generate_wrong": generate("wrong", "heldout_wrong.tsv"),
        "score_right": score("right", "heldout.tsv"),
        "score_wrong": score("wrong", "heldout_wrong.tsv"),
        "report": f"{MMAUDIO} report {RUN}",
    }


def _run(name: str, command: str) -> float:
    """Run one command to its end; the seconds it took. Raises: UserError naming the command that failed."""
    from mmaudio.base.machine import child_environment

    log.info("=== %s: python %s", name, command)
    began = time.monotonic()
    code = subprocess.run([sys.executable, *shlex.split(command)], check=False, env=child_environment()).returncode
    if code:
        raise UserError(f"the example stopped: {name} ended with exit code {code}; its command was: python {command}")
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
    lines = [json.loads(line) for line in (RUN / METRICS_FILE).read_text().splitlines()]
    return sorted((line["steps_done"], line["valid/loss"]) for line in lines if "valid/loss" in line)


def summarise(wall_s: dict[str, float], page: Path) -> dict[str, Any]:
    """Everything the example measured, ready for JSON."""
    right, wrong = (json.loads(_scores(name).read_text()) for name in ("right", "wrong"))
    distances = [scores["metrics"]["spectral_distance"] for scores in (right, wrong)]
    losses = _losses()
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "clips": _counts(),
        "val_loss": {"first": losses[0][1], "last": losses[-1][1]},
        "onset_f1": {key: right["onset_f1"][key] for key in ("generated", "shuffled", "interval")},
        "caption": {"right": distances[0]["value"], "wrong": distances[1]["value"], "unit": distances[0]["unit"]},
        "wall_s": {**{name: round(seconds, 1) for name, seconds in wall_s.items()}, "total": round(sum(wall_s.values()), 1)},
        "peak_memory_gb": round(peak_kib / KIB_PER_GB, 2),
        "page": str(page.resolve()),
    }


def make_media(argv: Sequence[str], prog: str = "mmaudio example media") -> int:
    """Make the media alone. Returns: the exit code. `prog`: the name that help and mistakes say, of the command or of its script."""
    program = f"python training/{prog}" if prog.endswith(".py") else prog
    parser = options_parser(prog, "Make example media by code.", program)
    parser.add_argument("--output_dir", default="training", help="folder of the guide's example (default training)")
    parser.add_argument("--learning_set", default=None, help="folder of the learning set; none is made unless this is given")
    for field in fields(LearningSet):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, help=f"learning set (default {field.default})"
        )
    problems = Problems()
    options = parse_options(parser, argv, problems)
    problems.raise_any()
    start_logging()
    make_guide_example(Path(options.output_dir))
    if options.learning_set is not None:
        make_learning_set(Path(options.learning_set), LearningSet(**{f.name: getattr(options, f.name) for f in fields(LearningSet)}))
    return 0


def main(argv: Sequence[str]) -> int:
    """The whole way, or with the word `media` the example's media alone. Returns: the exit code."""
    if argv[:1] == ["media"]:
        return make_media(argv[1:])
    parser: argparse.ArgumentParser = options_parser("mmaudio example", "The whole way on made-up data.", "mmaudio example")
    parser.add_argument("--num_iterations", type=int, default=1200, help="training steps (default 1200)")
    for name in COUNTS:
        count = getattr(LearningSet, name)
        parser.add_argument(f"--{name}", type=int, default=count, help=f"media of the learning set (default {count})")
    problems = Problems()
    options = parse_options(parser, argv, problems)
    problems.raise_any()
    start_logging()
    with hold_target(RUN.with_name(f"{EXP_ID}-command"), "the example"):
        _begin_run()
        wall_s = {name: _run(name, command) for name, command in commands(options).items()}
        summary = summarise(wall_s, RUN / "report" / "index.html")
        write_json(RUN / "summary.json", summary)
        write_record(RUN / RECORD_FILE, KIND, EXP_ID, {"state": "complete"})
    print(json.dumps(summary, indent=2))
    return 0


def _begin_run() -> None:
    """Leave the example's folder empty but for its record: it is always trained anew.

    What an example that was stopped has left is moved aside, for nothing says what of it is whose.
    Raises: UserError for a folder that is not the example's, or that somebody went on with.
    """
    record, real = RUN / RECORD_FILE, at_end_of_links(RUN)
    if fits(read_mark(record), KIND, EXP_ID) and json.loads(record.read_text(encoding="utf-8")).get("state") == BEGUN:
        aside = aside_path(real)
        os.rename(real, aside)
        log.warning("%s holds an example that was stopped; it is now %s", real, aside)
    check_made(record, KIND, EXP_ID)
    if real.exists():
        shutil.rmtree(real)
    real.mkdir(parents=True)
    write_json(record, {"state": BEGUN, MARK_KEY: mark_of(KIND, EXP_ID)})
