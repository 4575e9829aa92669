"""`mmaudio generate`: sound for one video, a folder of them, or a prompt alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.commands.backend_options import add_backend_options, backend_keywords
from mmaudio.commands.generate_jobs import NamedPrompt, check_outputs, jobs_asked_for
from mmaudio.weights import VARIANTS, locate


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


def _check_weights(options: argparse.Namespace) -> None:
    """Raises: UserError unless the options name weights: a file, or a published model."""
    if options.weights is not None and not Path(options.weights).is_file():
        raise UserError(f"--weights is {options.weights}, which is not a file; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    if options.weights is None and options.variant is None:
        raise UserError("which model? give --weights FILE, or --variant NAME for a published one, such as --variant small_16k")
    if options.weights is None and options.variant not in VARIANTS:
        raise UserError(f"no published model {options.variant!r}{nearest(options.variant, VARIANTS)}; known are {', '.join(VARIANTS)}")


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    jobs = problems.check(lambda: jobs_asked_for(options))
    if options.num_steps < 1 or options.batch_size < 1:
        problems.add(f"--num_steps {options.num_steps} and --batch_size {options.batch_size} have to be at least 1")
    problems.check(lambda: _check_weights(options))
    problems.check(lambda: check_outputs(jobs or [], Path(options.output)))
    problems.raise_any()
    assert jobs is not None
    return _generate(options, jobs)


def _generate(options: argparse.Namespace, jobs: list[NamedPrompt]) -> int:
    from mmaudio.base.ranks import num_cores, pick_device, read_ranks, set_threads
    from mmaudio.features.plan import FOR_GENERATION, FOR_PROMPTS
    from mmaudio.generate.model import ModelChoice, load_model
    from mmaudio.generate.sampler import SampleSettings
    from mmaudio.generate.samples import Job, Wishes, generate_samples

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
