"""Clips of recordings to a store of training features (latents and text).

torchrun --standalone training/extract_audio_training_latents.py --device cpu --backend lite
"""

from pathlib import Path

from mmaudio.base.errors import Problems, run_entry_point
from mmaudio.base.options import options_parser, parse_options
from mmaudio.commands.extract import add_common_options, run_extraction
from mmaudio.distributed.ranks import read_ranks
from mmaudio.extraction.inputs import find_audio_clips
from mmaudio.extraction.job import ExtractionKind
from mmaudio.extraction.reading import ReadingRules
from mmaudio.extraction.store_target import StoreTarget
from mmaudio.features.backend_plan import FOR_AUDIO


def main() -> int:
    example = "torchrun --standalone training/extract_audio_training_latents.py --device cpu --backend lite"
    parser = options_parser("extract_audio_training_latents.py", "Clips of recordings to a store of training features.", example)
    parser.add_argument("--data_dir", "--data_path", default="training/example_audios", help="folder of .flac and .wav files")
    parser.add_argument("--captions_tsv", default="training/example_audio.tsv", help="table with id and caption")
    parser.add_argument("--clips_tsv", default="training/example_output/clips.tsv", help="table partition_clips.py made")
    parser.add_argument("--latent_dir", default="training/example_output/audio-latents", help="folder of the work under way")
    parser.add_argument("--output_dir", default="training/example_output/memmap/audio-example", help="folder of the store")
    add_common_options(parser, batch_size=32, num_workers=8)
    problems = Problems()
    options = parse_options(parser, None, problems)
    output, captions_tsv, clips_tsv = Path(options.output_dir), Path(options.captions_tsv), Path(options.clips_tsv)
    stage = ExtractionKind(
        find=lambda: find_audio_clips(Path(options.data_dir), captions_tsv, clips_tsv),
        tables=(captions_tsv, clips_tsv),
        target=StoreTarget(output.parent, output.name, options.replace, options.append),
        needs=FOR_AUDIO,
        rules=ReadingRules(normalised=True),
    )
    return run_extraction(options, problems, stage)


if __name__ == "__main__":
    run_entry_point(main, speaks=lambda: read_ranks().is_first)
