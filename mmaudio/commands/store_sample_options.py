"""Options of `mmaudio store verify` that ask for rows to be encoded again."""

import argparse

from mmaudio.base.errors import Problems
from mmaudio.commands.backend_options import add_backend_options

FOR_SAMPLE = ("data_dir", "captions_tsv", "clips_tsv", "source_tsv")


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    """--sample and what it needs: where the media are, which backend, on what device."""
    parser.add_argument("--sample", type=int, default=None, help="encode so many rows again, at least the first and last, and compare them")
    parser.add_argument("--data_dir", default=None, help="folder of the media of the store's rows")
    parser.add_argument("--captions_tsv", default=None, help="of an audio store: table of captions (id, caption)")
    parser.add_argument("--clips_tsv", default=None, help="of an audio store: table of clips, as partition_clips.py writes it")
    parser.add_argument("--source_tsv", default=None, help="of a video store: table (id, label) to compare captions with")
    parser.add_argument("--backend", default=None, help="what made the store, pretrained or lite (default: what the record says)")
    add_backend_options(parser)
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto (default auto)")
    parser.add_argument("--seed", type=int, default=0, help="which rows are drawn (default 0)")
    parser.add_argument("--num_workers", type=int, default=1, help="threads that read files (default 1)")
    parser.add_argument(
        "--normalize_audio", choices=["true", "false"], default=None, help="as when videos were extracted (default: what the record says)"
    )


def check_options(options: argparse.Namespace, problems: Problems) -> None:
    """What can be told from the options alone."""
    given = [f"--{name}" for name in FOR_SAMPLE if getattr(options, name) is not None]
    if options.sample is None and given:
        problems.add(f"{', '.join(given)}: only for comparing rows with their media; add --sample N")
    if options.sample is not None:
        if options.sample < 1:
            problems.add(f"--sample is {options.sample}; want at least 1")
        if options.data_dir is None:
            problems.add("--sample compares rows with their media; say where these are: --data_dir FOLDER")
    if options.num_workers < 1:
        problems.add(f"--num_workers is {options.num_workers}; want at least 1")
