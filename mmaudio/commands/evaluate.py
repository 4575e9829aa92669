"""`mmaudio evaluate`: numbers for a folder of generated sounds, against the real ones."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError
from mmaudio.base.files import write_json
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.commands.captions import read_captions

REFERENCE_SUFFIXES = (".flac", ".wav", ".mp4")


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio evaluate --generated output/generated --reference my/videos --captions my/test.tsv --output scores.json"
    parser = options_parser("mmaudio evaluate", "Score a folder of generated sounds against the real ones.", example)
    parser.add_argument("--generated", required=True, help="folder of {id}.flac")
    parser.add_argument("--reference", required=True, help="folder of {id}.flac, {id}.wav, or {id}.mp4 with sound")
    parser.add_argument("--captions", default=None, help="table with id and label or caption: only its ids are scored")
    parser.add_argument("--duration", type=float, default=None, help="seconds compared, from the start (default: all generated, at most 8)")
    parser.add_argument("--output", default=None, help="JSON file of the scores (default: scores.json in the generated folder)")
    return parser


def reference_files(folder: Path, ids: Sequence[str] | None) -> dict[str, Path]:
    """Id → file of every reference sound in a folder, or of the ids asked for (one without a file is a reference too).

    Raises: UserError for a folder that is missing or holds none of them.
    """
    if not folder.is_dir():
        raise UserError(f"--reference is {folder}, which is not a folder")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in REFERENCE_SUFFIXES}
    wanted = list(found) if ids is None else ids
    if not any(name in found for name in wanted):
        raise UserError(f"--reference {folder} holds no {', '.join(REFERENCE_SUFFIXES)} file{' of the ids asked for' if ids else ''}")
    return {name: found.get(name, folder / f"{name}{REFERENCE_SUFFIXES[0]}") for name in wanted}


def _longest_s(generated: Path) -> float:
    """Seconds of the longest generated sound, at most those of a published sample."""
    from mmaudio.media.audio import AUDIO_SUFFIXES, audio_header

    headers = [audio_header(path) for path in generated.iterdir() if path.suffix in AUDIO_SUFFIXES]
    return min(DEFAULT_DURATION_S, max((samples / rate_hz for samples, rate_hz in headers), default=DEFAULT_DURATION_S))


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    generated = Path(options.generated)
    output = Path(options.output) if options.output else generated / "scores.json"
    captions = problems.check(lambda: read_captions(Path(options.captions))) if options.captions else None
    reference = problems.check(lambda: reference_files(Path(options.reference), list(captions) if captions else None))
    if options.duration is not None and not options.duration > 0:
        problems.add(f"--duration is {options.duration}; want a number of seconds above 0")
    if not generated.is_dir():
        problems.add(f"--generated is {generated}, which is not a folder")
    if output.suffix != ".json":
        problems.add(f"--output is {output}; want a .json file")
    problems.raise_any()
    assert reference is not None
    from mmaudio.metrics.scoring import score_folder

    start_logging()
    scores = score_folder(generated, reference, duration_s=options.duration or _longest_s(generated), captions=captions)
    write_json(output, scores)
    counts, onsets = scores["counts"], scores["onset_f1"]
    print(f"{counts['paired']} of {counts['reference']} sounds scored: onset F1 {onsets['generated']:.3f}", end="")
    print("" if onsets["shuffled"] is None else f" (shuffled {onsets['shuffled']:.3f})", end="")
    print(f", spectral distance {scores['spectral_distance']['mean']:.2f} dB; all in {output}")
    return EXIT_REJECTS if scores["failed"] or counts["missing_ids"] else 0
