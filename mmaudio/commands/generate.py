"""`mmaudio generate`: sound for videos, images or prompts alone, on one process or, under torchrun, on several."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.features.backend_plan import add_backend_options, backend_keywords, read_places
from mmaudio.files.atomic import check_writable
from mmaudio.files.owned_files import SAMPLES_FILE, add_ids
from mmaudio.flow import METHODS
from mmaudio.generate.jobs import GenerationJob, GenerationOptions, SampleFailure
from mmaudio.generate.requests import check_duration, check_outputs, check_owned, check_seed, jobs_asked_for
from mmaudio.weights import VARIANTS, checksum, locate

if TYPE_CHECKING:
    import torch

    from mmaudio.distributed.ranks import Ranks
    from mmaudio.generate.model import ModelChoice, ModelPlan


# ---- Options, and what is wrong with them; torch is not needed to read them

EXAMPLE = 'mmaudio generate --video rain.mp4 --prompt "rain on a tin roof" --weights output/my_run/my_run_ema_final.pth'


def generate_parser() -> argparse.ArgumentParser:
    parser = options_parser("mmaudio generate", "Give videos, images or prompts alone the sound a prompt describes.", EXAMPLE)
    _add_inputs(parser)
    _add_model(parser)
    _add_sampling(parser)
    parser.add_argument(
        "--output",
        default="./output/generated",
        help="folder of the samples (default ./output/generated); one call at a time writes to it, torchrun's processes together",
    )
    parser.add_argument(
        "--replace", action="store_true", help="move files of the same names that this program did not make aside, instead of refusing"
    )
    parser.add_argument("--skip_video_composite", action="store_true", help="write no .mp4")
    parser.add_argument("--reencode", action="store_true", help="encode pictures anew as H.264 instead of copying them as they are")
    parser.add_argument(
        "--keep_existing", action="store_true", help="leave out what is complete in the output folder and made the same way"
    )
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    many = "a file, a folder, or a pattern in quotes; repeatable"
    parser.add_argument("--video", action="append", default=[], help=f"{many}; without any input, the prompt alone")
    parser.add_argument("--image", action="append", default=[], help=f"{many}; a scene that stays")
    parser.add_argument(
        "--jsonl",
        default=None,
        help="a JSON object a line, each key optional: video, image, prompt, negative_prompt, name, duration, seed",
    )
    parser.add_argument("--prompt", default="", help="what to hear")
    parser.add_argument("--captions", default=None, help="table with id and label or caption: one prompt per video of the folder")
    parser.add_argument("--negative_prompt", default="", help="what not to hear (the published page has 'music' for videos)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default=None, help="weights file; its record says model, backend and duration")
    parser.add_argument("--variant", default=None, help="which model the weights are of; without --weights: a published model to fetch")
    parser.add_argument("--backend", default=None, help="pretrained or lite (default: as the record says)")
    add_backend_options(parser)
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto (default auto: a GPU if there is one)")
    parser.add_argument("--full_precision", action="store_true", help="float32 on a GPU too, where the model else runs in bf16")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--duration", type=float, default=None, help="seconds (default: as trained); a shorter video lowers it")
    parser.add_argument("--cfg_strength", type=float, default=4.5, help="guidance; below 1 there is none (default 4.5)")
    parser.add_argument("--num_steps", type=int, default=25, help="solver steps (default 25)")
    parser.add_argument("--method", default="euler", help=f"solver, of {', '.join(METHODS)} (default euler); adaptive counts no steps")
    parser.add_argument("--seed", type=int, default=42, help="of the starting noise, together with the sample's name (default 42)")
    parser.add_argument("--batch_size", type=int, default=16, help="samples at once (default 16); changes their latents by rounding alone")
    parser.add_argument("--mask_away_clip", action="store_true", help="withhold the scene, keep the synchronisation stream")


def _check_options(options: argparse.Namespace, problems: Problems) -> None:
    """Add a sentence for everything wrong with the options themselves; inputs are for `jobs_asked_for`."""
    if options.num_steps < 1 or options.batch_size < 1:
        problems.add(f"--num_steps {options.num_steps} and --batch_size {options.batch_size} have to be at least 1")
    problems.check(lambda: check_seed(options.seed, "--seed"))
    if not math.isfinite(options.cfg_strength):
        problems.add(f"--cfg_strength is {options.cfg_strength}; want a number, such as 4.5")
    if options.method not in METHODS:
        problems.add(f"--method is {options.method!r}{nearest(options.method, METHODS)}; known are {', '.join(METHODS)}")
    if options.duration is not None:
        problems.check(lambda: check_duration(options.duration))
    if options.full_precision and options.dtype != "fp32":
        problems.add(f"--full_precision and --dtype {options.dtype} contradict each other; leave one of them out")
    if options.reencode and options.skip_video_composite:
        problems.add("--reencode is about the .mp4 that --skip_video_composite leaves out; leave one of them out")
    problems.check(lambda: read_places(options.pretrained))
    problems.check(lambda: _check_weights(options))
    problems.check(lambda: check_writable(Path(options.output)))


def _check_weights(options: argparse.Namespace) -> None:
    """Raises: UserError unless the options name weights: a file, or a published model."""
    if options.weights is not None and not Path(options.weights).is_file():
        raise UserError(f"--weights is {options.weights}, which is not a file; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    if options.weights is None and options.variant is None:
        raise UserError("which model? give --weights FILE, or --variant NAME for a published one, such as --variant small_16k")
    if options.weights is None and options.variant not in VARIANTS:
        raise UserError(f"no published model {options.variant!r}{nearest(options.variant, VARIANTS)}; known are {', '.join(VARIANTS)}")


# ---- The command


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(generate_parser(), argv, problems)
    jobs = problems.check(lambda: jobs_asked_for(options))
    _check_options(options, problems)
    problems.check(lambda: check_outputs(jobs or [], Path(options.output)))
    if not options.replace:
        problems.check(lambda: check_owned(jobs or [], Path(options.output), with_video=not options.skip_video_composite))
    problems.raise_any()
    assert jobs is not None
    return _generate(options, jobs)


def _generate(options: argparse.Namespace, jobs: list[GenerationJob]) -> int:
    """Collective under torchrun: each process makes its share."""
    from mmaudio.distributed.collectives import UNEVEN_WORK_TIMEOUT, first_holds, gather_objects, on_first_rank, process_group
    from mmaudio.distributed.devices import pick_device, set_threads
    from mmaudio.distributed.ranks import read_ranks
    from mmaudio.generate.conditioning import from_first_readable, read_inputs
    from mmaudio.generate.model import load_planned, plan_model
    from mmaudio.generate.samples import generate_samples, jobs_missing

    ranks = read_ranks()
    start_logging(ranks.rank)
    set_threads(ranks)
    device = pick_device(options.device, ranks)
    plan = plan_model(_choice(options, Path(options.weights))) if options.weights is not None else None
    duration_s = plan.spec.duration_s if plan else DEFAULT_DURATION_S if options.duration is None else options.duration
    output = Path(options.output)
    with process_group(ranks, device, UNEVEN_WORK_TIMEOUT), first_holds(output / SAMPLES_FILE, f"samples in {output}"):
        wishes = _wishes(options, duration_s, device, ranks, on_first_rank(lambda: _made_by(options, plan)))
        due = on_first_rank(lambda: jobs_missing(jobs, wishes)) if options.keep_existing else jobs
        own = due[ranks.rank :: ranks.world_size]
        failed, inputs = from_first_readable(read_inputs(own, duration_s, wishes.num_workers))
        if any(gather_objects(inputs is not None)):
            on_first_rank(lambda: add_ids(wishes.output_dir, wishes.files_of(jobs)))
        if inputs is not None:  # now that there is something to make, a model may be fetched for it
            plan = plan or plan_model(_choice(options, locate(options.variant)))
            model = load_planned(plan, device, _needs(due, wishes))
            failed |= generate_samples(model, own, wishes, inputs=inputs, rank=ranks.rank)
        failed = {name: failure for share in gather_objects(failed) for name, failure in share.items()}
        if ranks.is_first:
            _tell(jobs, len(jobs) - len(due), failed, wishes)
        gather_objects(None)  # the first process to leave with a code other than 0 ends the others
    return EXIT_REJECTS if failed else 0


def _choice(options: argparse.Namespace, weights: Path) -> "ModelChoice":
    from mmaudio.generate.model import ModelChoice

    return ModelChoice(weights, options.variant, options.backend, options.duration, backend_keywords(options))


def _made_by(options: argparse.Namespace, plan: "ModelPlan | None") -> str:
    """Which weights, backend and arithmetic make the samples; a published model is known by its name, without a file of it."""
    weights = checksum(plan.weights) if plan else "published"
    variant, backend = (plan.variant, plan.backend.name) if plan else (options.variant, options.backend)
    how = {"dtype": options.dtype, "places": read_places(options.pretrained), "full_precision": options.full_precision}
    return json.dumps({"weights": weights, "variant": variant, "backend": backend, **how}, sort_keys=True)


def _wishes(options: argparse.Namespace, duration_s: float, device: "torch.device", ranks: "Ranks", made_by: str) -> GenerationOptions:
    from mmaudio.base.machine import num_cores
    from mmaudio.distributed.devices import allow_tf32, has_bf16_units
    from mmaudio.generate.sampler import SampleSettings

    amp = not options.full_precision and has_bf16_units(device)
    if not options.full_precision:
        allow_tf32()  # for what is not in bf16
    return GenerationOptions(
        output_dir=Path(options.output),
        duration_s=duration_s,
        sampling=SampleSettings(options.num_steps, options.cfg_strength, options.method, seed=options.seed, amp=amp),
        negative_prompt=options.negative_prompt,
        mask_clip=options.mask_away_clip,
        with_video=not options.skip_video_composite,
        batch_size=options.batch_size,
        num_workers=max(1, (num_cores() - 1) // ranks.local_world_size),
        reencode=options.reencode,
        made_by=made_by,
        replaces=options.replace,
    )


def _needs(jobs: Sequence[GenerationJob], wishes: GenerationOptions) -> list[str]:
    """What these jobs need of the backend: no encoder is loaded in vain."""
    needs = ["text", "sound"]
    if any(job.source for job in jobs) and not wishes.mask_clip:
        needs.append("scene")
    if any(job.video for job in jobs):
        needs.append("sync")
    return needs


def _tell(jobs: Sequence[GenerationJob], num_kept: int, failed: dict[str, SampleFailure], wishes: GenerationOptions) -> None:
    for job in jobs:  # in their order, whichever process found out
        if job.name in failed:
            what = f"no .mp4 of {job.name}: only its sound is made" if failed[job.name].has_sound else f"no sample for {job.name}"
            print(f"{what}: {failed[job.name].reason}")
    kept = f", {num_kept} of them from before" if num_kept else ""
    print(f"{len(jobs) - len(failed)} of {len(jobs)} samples in {wishes.output_dir}{kept}", flush=True)
