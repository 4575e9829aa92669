"""`mmaudio generate`: sound for videos, images or prompts alone, on one process or, under torchrun, on several."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.base.samples_file import add_ids
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.commands.backend_options import backend_keywords, read_places
from mmaudio.commands.generate_jobs import check_outputs, jobs_asked_for
from mmaudio.commands.generate_options import check_options, generate_parser
from mmaudio.generate.jobs import Failure, Job, Wishes
from mmaudio.weights import checksum, locate

if TYPE_CHECKING:  # help comes without torch
    import torch

    from mmaudio.base.ranks import Ranks
    from mmaudio.generate.model import ModelChoice, ModelPlan


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(generate_parser(), argv, problems)
    jobs = problems.check(lambda: jobs_asked_for(options))
    check_options(options, problems)
    problems.check(lambda: check_outputs(jobs or [], Path(options.output)))
    problems.raise_any()
    assert jobs is not None
    return _generate(options, jobs)


def _generate(options: argparse.Namespace, jobs: list[Job]) -> int:
    """Collective under torchrun: each process makes its share."""
    from mmaudio.base.ranks import UNEVEN_WORK_TIMEOUT, first_does, gather_objects, pick_device, process_group, read_ranks, set_threads
    from mmaudio.generate.inputs import from_first_readable, read_inputs
    from mmaudio.generate.kept import jobs_due
    from mmaudio.generate.model import load_planned, plan_model
    from mmaudio.generate.samples import generate_samples

    ranks = read_ranks()
    start_logging(ranks.rank)
    set_threads(ranks)
    device = pick_device(options.device, ranks)
    plan = plan_model(_choice(options, Path(options.weights))) if options.weights is not None else None
    duration_s = plan.spec.duration_s if plan else DEFAULT_DURATION_S if options.duration is None else options.duration
    with process_group(ranks, device, UNEVEN_WORK_TIMEOUT):
        wishes = _wishes(options, duration_s, device, ranks, first_does(lambda: _made_by(options, plan)))
        due = first_does(lambda: jobs_due(jobs, wishes)) if options.keep_existing else jobs
        own = due[ranks.rank :: ranks.world_size]
        failed, inputs = from_first_readable(read_inputs(own, duration_s, wishes.num_workers))
        if any(gather_objects(inputs is not None)):
            first_does(lambda: add_ids(wishes.output_dir, wishes.files_of(jobs)))
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


def _wishes(options: argparse.Namespace, duration_s: float, device: "torch.device", ranks: "Ranks", made_by: str) -> Wishes:
    from mmaudio.base.ranks import num_cores
    from mmaudio.generate.sampler import SampleSettings
    from mmaudio.trainer.precision import allow_tf32, has_bf16_units

    amp = not options.full_precision and has_bf16_units(device)
    if not options.full_precision:
        allow_tf32()  # for what is not in bf16
    return Wishes(
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
    )


def _needs(jobs: Sequence[Job], wishes: Wishes) -> list[str]:
    """What these jobs need of the backend: no encoder is loaded in vain."""
    needs = ["text", "sound"]
    if any(job.source for job in jobs) and not wishes.mask_clip:
        needs.append("scene")
    if any(job.video for job in jobs):
        needs.append("sync")
    return needs


def _tell(jobs: Sequence[Job], num_kept: int, failed: dict[str, Failure], wishes: Wishes) -> None:
    for job in jobs:  # in their order, whichever process found out
        if job.name in failed:
            what = f"no .mp4 of {job.name}: only its sound is made" if failed[job.name].has_sound else f"no sample for {job.name}"
            print(f"{what}: {failed[job.name].reason}")
    kept = f", {num_kept} of them from before" if num_kept else ""
    print(f"{len(jobs) - len(failed)} of {len(jobs)} samples in {wishes.output_dir}{kept}", flush=True)
