"""`mmaudio generate`: sound for one video, a folder of them, or a prompt alone."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.commands.backend_options import add_backend_options, backend_keywords
from mmaudio.commands.captions import read_captions
from mmaudio.weights.catalogue import VARIANTS

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_NAME = 80  # characters of a prompt that make a file name


def _parser() -> argparse.ArgumentParser:
    example = 'mmaudio generate --video rain.mp4 --prompt "rain on a tin roof" --weights output/my_run/my_run_ema_final.pth'
    parser = options_parser("mmaudio generate", "Give a video, or many, the sound a prompt describes.", example)
    parser.add_argument("--weights", default=None, help="weights file; its record says model, backend and duration")
    parser.add_argument("--video", default=None, help="a video file or a folder of them; without it, the prompt alone")
    parser.add_argument("--prompt", default="", help="what to hear")
    parser.add_argument("--captions", default=None, help="table with id and label or caption: one prompt per video of the folder")
    parser.add_argument("--negative_prompt", default="", help="what not to hear")
    parser.add_argument("--output", default="./output/generated", help="folder of the samples")
    parser.add_argument("--variant", default=None, help="which model the weights are of; without --weights: a published model to fetch")
    parser.add_argument("--backend", default=None, help="pretrained or lite (default: as the record says)")
    add_backend_options(parser)
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto (default auto)")
    parser.add_argument("--duration", type=float, default=None, help="seconds (default: as trained); a shorter video lowers it")
    parser.add_argument("--cfg_strength", type=float, default=4.5, help="guidance; below 1 there is none (default 4.5)")
    parser.add_argument("--num_steps", type=int, default=25, help="solver steps (default 25)")
    parser.add_argument("--seed", type=int, default=42, help="of the starting noise, together with the sample's name")
    parser.add_argument("--batch_size", type=int, default=16, help="samples at once (default 16); does not change them")
    parser.add_argument("--mask_away_clip", action="store_true", help="withhold the scene, keep the synchronisation stream")
    parser.add_argument("--skip_video_composite", action="store_true", help="write no .mp4")
    return parser


def _file_name(prompt: str) -> str:
    return re.sub(r"[^\w-]+", "_", prompt).strip("_")[:MAX_NAME] or "unnamed"


def _jobs(options: argparse.Namespace) -> list[tuple[str, str, Path | None]]:
    """Name, prompt and video of every sample asked for."""
    if options.video is None:
        if not options.prompt or options.captions:
            raise UserError("nothing to generate from: give --video FILE (or a folder, perhaps with --captions TABLE), or --prompt TEXT")
        return [(_file_name(options.prompt), options.prompt, None)]
    video = Path(options.video)
    if video.is_file():
        return [(video.stem, options.prompt, video)]
    if not video.is_dir():
        raise UserError(f"--video is {video}, which is neither a file nor a folder")
    if options.captions is not None:
        return _captioned(video, Path(options.captions))
    found = sorted(path for path in video.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise UserError(f"--video is {video}, a folder without a video ({', '.join(VIDEO_SUFFIXES)})")
    return [(path.stem, options.prompt, path) for path in found]


def _captioned(folder: Path, table_path: Path) -> list[tuple[str, str, Path | None]]:
    named = read_captions(table_path).items()
    jobs: list[tuple[str, str, Path | None]] = [(name, prompt, folder / f"{name}.mp4") for name, prompt in named]
    missing = [name for name, _, path in jobs if path is not None and not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of the {len(jobs)} ids of {table_path} have no .mp4 in {folder}, the first is {missing[0]!r}")
    return jobs


def _check_weights(options: argparse.Namespace) -> None:
    """Raises: UserError unless the options name weights: a file, or a published model."""
    if options.weights is not None and not Path(options.weights).is_file():
        raise UserError(f"--weights is {options.weights}, which is not a file; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    if options.weights is None and options.variant is None:
        raise UserError("which model? give --weights FILE, or --variant NAME for a published one, such as --variant small_16k")
    if options.weights is None and options.variant not in VARIANTS:
        raise UserError(f"no published model {options.variant!r}{nearest(options.variant, VARIANTS)}; known are {', '.join(VARIANTS)}")


def _check_outputs(jobs: list[tuple[str, str, Path | None]], output: Path) -> None:
    """Raises: UserError where samples would replace one another, or a video they are made from."""
    names = [name for name, _, _ in jobs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise UserError(f"--video holds several files named {twice[0]!r} that differ only in their suffix; keep one of each name")
    for name, _, video in jobs:
        if video is not None and (output / f"{name}.mp4").resolve() == video.resolve():
            raise UserError(f"--output is {output}, where {video.name} would be replaced by its copy with new sound; name another folder")


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    jobs = problems.check(lambda: _jobs(options))
    if options.num_steps < 1 or options.batch_size < 1:
        problems.add(f"--num_steps {options.num_steps} and --batch_size {options.batch_size} have to be at least 1")
    problems.check(lambda: _check_weights(options))
    problems.check(lambda: _check_outputs(jobs or [], Path(options.output)))
    problems.raise_any()
    assert jobs is not None
    return _generate(options, jobs)


def _generate(options: argparse.Namespace, jobs: list[tuple[str, str, Path | None]]) -> int:
    from mmaudio.base.ranks import num_cores, pick_device, read_ranks, set_threads
    from mmaudio.features.backend import FOR_GENERATION, FOR_PROMPTS
    from mmaudio.generate.model import ModelChoice, load_model
    from mmaudio.generate.sampler import SampleSettings
    from mmaudio.generate.samples import Job, Wishes, generate_samples
    from mmaudio.weights import locate

    start_logging()
    ranks = read_ranks()
    set_threads(ranks)
    weights = Path(options.weights) if options.weights is not None else locate(options.variant)
    choice = ModelChoice(weights, options.variant, options.backend, options.duration, backend_keywords(options))
    needs = FOR_GENERATION if any(video for _, _, video in jobs) else FOR_PROMPTS
    model = load_model(choice, pick_device(options.device, ranks), needs)
    wishes = Wishes(
        output_dir=Path(options.output),
        duration_s=model.backend.spec.duration_s,
        sampling=SampleSettings(num_steps=options.num_steps, cfg_strength=options.cfg_strength, seed=options.seed),
        negative_prompt=options.negative_prompt,
        mask_clip=options.mask_away_clip,
        with_video=not options.skip_video_composite,
        batch_size=options.batch_size,
        num_workers=max(1, num_cores() - 1),
    )
    failed = generate_samples(model, [Job(*job) for job in jobs], wishes)
    for name, reason in failed.items():
        print(f"no sample for {name}: {reason}")
    print(f"{len(jobs) - len(failed)} of {len(jobs)} samples in {wishes.output_dir}")
    return EXIT_REJECTS if failed else 0
