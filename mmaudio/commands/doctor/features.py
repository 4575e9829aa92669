"""`mmaudio doctor extract`, `generate`, `evaluate`: packages, weights, codecs, device and disk for what uses a backend."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import MODES
from mmaudio.commands.backend_options import add_backend_options, read_places
from mmaudio.commands.doctor.judges import NO_JUDGES, plan_judges
from mmaudio.commands.doctor.packages import extras, missing_packages
from mmaudio.commands.doctor.sheet import conclude, print_section
from mmaudio.weights import VARIANTS

OUTPUTS = {"extract": "training/example_output", "generate": "output/generated", "evaluate": "output"}


def _parser(topic: str) -> argparse.ArgumentParser:
    example = f"mmaudio doctor {topic} --backend pretrained --mode 44k --device cuda"
    parser = options_parser(f"mmaudio doctor {topic}", f"What is missing to {topic} on this machine.", example)
    parser.add_argument("--backend", choices=["pretrained", "lite"], default="pretrained", help="encoders and codec (default pretrained)")
    parser.add_argument("--mode", choices=list(MODES), default="16k", help="sampling rate (default 16k)")
    parser.add_argument("--device", default="auto" if topic == "generate" else "cuda", help="cuda, cpu or auto")
    parser.add_argument("--output", type=Path, default=Path(OUTPUTS[topic]), help="where results are to go")
    if topic == "evaluate":
        words = "metrics that are planned, and groups of them: embedded, av_bench (default embedded, which needs no weights)"
        parser.add_argument("--metrics", nargs="+", default=["embedded"], metavar="NAME", help=words)
        parser.add_argument("--engine", choices=["own", "av_bench"], default="own", help="what is to compute them (default own)")
    if topic == "generate":
        parser.add_argument("--variant", choices=VARIANTS, default=None, help="a published network to generate with")
    add_backend_options(parser)
    return parser


def main(topic: str, argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(topic), argv, problems)
    places = problems.check(lambda: read_places(options.pretrained)) or {}
    plan = plan_judges(options.metrics, options.engine, problems) if topic == "evaluate" else NO_JUDGES
    problems.raise_any()
    from mmaudio.base.ranks import Ranks, pick_device
    from mmaudio.commands.doctor.machine import machine_lines
    from mmaudio.commands.doctor.weights import check_codecs, check_weights, needed_weights, weight_lines

    names = needed_weights(topic, options.mode, getattr(options, "variant", None)) if options.backend == "pretrained" else ()
    names = tuple(dict.fromkeys((*names, *plan.weights)))
    print_section("this machine", machine_lines(options.output))
    for sentence in missing_packages(topic) if topic != "evaluate" or plan.needs_extra else ():
        problems.add(sentence)
    if plan.lines:
        print_section("metrics", plan.lines)
    for sentence in plan.sentences:
        problems.add(sentence)
    problems.check(lambda: pick_device(options.device, Ranks()))
    check_codecs(problems)
    if names:
        print_section("weights", weight_lines(names, places))
        check_weights(names, places, problems)
    else:
        print_section("weights", [("none", "the lite backend has none")])
    return conclude(problems.sentences)


def overview() -> int:
    """The machine, the weights that are here, the extras; missing is only what everything needs."""
    from mmaudio.commands.doctor.machine import machine_lines
    from mmaudio.commands.doctor.weights import check_codecs, weight_lines
    from mmaudio.weights import CATALOGUE

    problems = Problems()
    print_section("this machine", machine_lines(Path("output")))
    print_section("weights of the pretrained backend", weight_lines(tuple(CATALOGUE), {}))
    if names := extras():
        told = {name: missing_packages(name) for name in names}
        print_section("extras", ((name, "; ".join(lacking) or "installed") for name, lacking in told.items()))
    check_codecs(problems)
    print("for a command that is planned: mmaudio doctor train|extract|generate|evaluate\n")
    return conclude(problems.sentences)
