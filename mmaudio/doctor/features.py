"""What extraction, generation and evaluation need, and what of it is not here."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import MODES
from mmaudio.doctor.environment import extras, free_disk, missing_files, missing_packages, print_missing, print_section, quantity
from mmaudio.features.backend_plan import add_backend_options, read_places
from mmaudio.media.containers import missing_codecs
from mmaudio.metrics.extractors.available import extractors_for
from mmaudio.metrics.registry import Metric, metrics_named
from mmaudio.weights import CATALOGUE, VARIANTS, check_place, extraction_needs, generation_needs
from mmaudio.weights.locate import MISSING, WRONG, state

# ---- What planned metrics are measured with: extractors with their packages and weights, or the package av_bench


@dataclass(frozen=True)
class ExtractorPlan:
    """`lines`: metric and what tells it. `weights`: names of what the extractors load. `sentences`: what is missing beside those."""

    lines: tuple[tuple[str, str], ...] = ()
    weights: tuple[str, ...] = ()
    needs_extra: bool = False
    sentences: tuple[str, ...] = ()


NO_EXTRACTORS = ExtractorPlan()


def plan_extractors(words: Sequence[str], engine: str, problems: Problems) -> ExtractorPlan:
    """What the metrics of these names, and groups of them, take. Names that there are none of go to `problems`."""
    rows = metrics_named(words, problems)
    if engine == "av_bench":
        from mmaudio.metrics.av_bench import check_av_bench

        missing = Problems()
        missing.check(check_av_bench)
        lines = tuple((row.name, "from sounds" if row.is_embedded else "by the package av_bench") for row in rows)
        return ExtractorPlan(lines, sentences=tuple(missing.sentences))
    extractors = extractors_for(stem for row in rows for stem in _stems(row))[0]
    weights = tuple(dict.fromkeys(name for extractor in extractors for name in extractor.weights))
    needs_extra = any(extractor.extra is not None for extractor in extractors)
    return ExtractorPlan(tuple((row.name, _told_from(row)) for row in rows), weights, needs_extra)


def _stems(row: Metric) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*row.predicted_stems, *row.reference_stems)))


def _told_from(row: Metric) -> str:
    """In words, where the features of a metric come from."""
    if row.is_embedded:
        return "from sounds"
    extractors, others = extractors_for(_stems(row))
    words = [f"by {extractor.name}" for extractor in extractors]
    if others:
        words.append(f"from {', '.join(others)} of av-bench's own making, for which there is no judge here")
    return "; ".join(words)


# ---- What a pretrained backend loads

_HERE = Path()
_UNITS = {"MB": 1e6, "GB": 1e9}


def backend_weights(topic: str, mode: str, variant: str | None) -> tuple[str, ...]:
    """Names of what a command loads. Generating with own weights, or evaluating, needs no published network."""
    if topic == "extract":
        return extraction_needs(mode)
    if topic == "evaluate":  # samples rows of features, so it only decodes
        return f"vae_{mode}", f"vocoder_{mode}"
    if variant is not None:
        return generation_needs(variant)
    return f"vae_{mode}", f"vocoder_{mode}", "synchformer", "clip"


def size_bytes(size: str) -> float:
    """Of a size as the catalogue has it: `601 MB`."""
    number, unit = size.split()
    return float(number) * _UNITS[unit]


def weight_lines(names: Sequence[str], places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What there is of each, and its size."""
    for name in names:
        row = CATALOGUE[name]
        yield name, f"from {places[name]}" if name in places else f"{state(row, _HERE):<10}  {row.size:>6}  {row.path(_HERE)}"


def check_backend_weights(names: Sequence[str], places: Mapping[str, str], problems: Problems) -> None:
    """Add a sentence for each weight that is missing or wrong, for places where none is, and for a disk without room."""
    to_fetch = 0.0
    for name, place in places.items():
        problems.check(partial(check_place, name, place))
    for row in (CATALOGUE[name] for name in names if name not in places):
        found = state(row, _HERE)
        if found == WRONG:
            problems.add(row.told(f"{row.path(_HERE)} is not the published file"))
        elif found == MISSING:
            to_fetch += size_bytes(row.size)
            problems.add(row.told(f"{row.path(_HERE)} ({row.size}) is missing"))
    if to_fetch > free_disk(_HERE):
        problems.add(f"the missing weights are {quantity(to_fetch, 'B')} and {quantity(free_disk(_HERE), 'B')} are free here; make room")


# ---- The command


def check_codecs(problems: Problems) -> None:
    """Add a sentence where the FFmpeg of PyAV lacks codecs."""
    if lacking := missing_codecs():
        problems.add(f"PyAV's FFmpeg has no {', '.join(lacking)}; install its wheel anew: `pip install --force-reinstall --no-deps av`")


def check_installation(problems: Problems) -> None:
    """Add a sentence for each file of this program that is not there, and for codecs that are not."""
    for sentence in missing_files():
        problems.add(sentence)
    check_codecs(problems)


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
    plan = plan_extractors(options.metrics, options.engine, problems) if topic == "evaluate" else NO_EXTRACTORS
    problems.raise_any()
    from mmaudio.distributed.devices import pick_device
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.doctor.environment import machine_lines

    names = backend_weights(topic, options.mode, getattr(options, "variant", None)) if options.backend == "pretrained" else ()
    names = tuple(dict.fromkeys((*names, *plan.weights)))
    print_section("this machine", machine_lines(options.output))
    for sentence in missing_packages(topic) if topic != "evaluate" or plan.needs_extra else ():
        problems.add(sentence)
    if plan.lines:
        print_section("metrics", plan.lines)
    for sentence in plan.sentences:
        problems.add(sentence)
    problems.check(lambda: pick_device(options.device, Ranks()))
    check_installation(problems)
    if names:
        print_section("weights", weight_lines(names, places))
        check_backend_weights(names, places, problems)
    else:
        print_section("weights", [("none", "the lite backend has none")])
    return print_missing(problems.sentences)


def overview() -> int:
    """The machine, the weights that are here, the extras; missing is only what everything needs."""
    from mmaudio.doctor.environment import machine_lines
    from mmaudio.weights import CATALOGUE

    problems = Problems()
    print_section("this machine", machine_lines(Path("output")))
    print_section("weights of the pretrained backend", weight_lines(tuple(CATALOGUE), {}))
    told = {name: missing_packages(name) for name in extras()}
    if told:
        print_section("extras", ((name, "; ".join(lacking) or "installed") for name, lacking in told.items()))
    check_installation(problems)
    print("for a command that is planned: mmaudio doctor train|extract|generate|evaluate\n")
    has_all = not any(told.values()) and all(state(row, _HERE) not in (MISSING, WRONG) for row in CATALOGUE.values())
    return print_missing(problems.sentences, "nothing is missing" if has_all else "nothing that all commands need is missing")
