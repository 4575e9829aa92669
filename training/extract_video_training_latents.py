"""Videos with sound to a store of training features (latents, scene, synchronisation and text).

torchrun --standalone training/extract_video_training_latents.py --device cpu --backend lite
torchrun --standalone training/extract_video_training_latents.py --data_dir my/videos --tsv my/train.tsv --name my-train
"""

from pathlib import Path

from mmaudio.base.errors import Problems, run_entry_point
from mmaudio.base.options import options_parser, parse_options
from mmaudio.commands.extract import add_common_options, run_extraction
from mmaudio.distributed.ranks import read_ranks
from mmaudio.extraction.inputs import Inputs, find_videos
from mmaudio.extraction.job import ExtractionKind
from mmaudio.extraction.reading import RESIZES, ReadingRules
from mmaudio.extraction.store_target import StoreTarget
from mmaudio.features.backend_plan import FOR_VIDEO
from mmaudio.media.frame_selection import FRAME_RULES
from mmaudio.media.synthetic import make_guide_example

EXAMPLE_FOLDER = Path("training")
DEFAULT_DATA = EXAMPLE_FOLDER / "example_videos"


def main() -> int:
    example = "torchrun --standalone training/extract_video_training_latents.py --device cpu --backend lite"
    parser = options_parser("extract_video_training_latents.py", "Videos with sound to a store of training features.", example)
    parser.add_argument("--data_dir", "--data_path", default=str(DEFAULT_DATA), help="folder of {id}.mp4 files")
    parser.add_argument("--tsv", default="training/example_video.tsv", help="table with id and label")
    parser.add_argument("--name", default="vgg-example", help="name of the store (default vgg-example)")
    parser.add_argument(
        "--normalize_audio", choices=["true", "false"], default="true", help="bring each sound track to one peak (default true)"
    )
    parser.add_argument("--latent_dir", default="training/example_output/video-latents", help="folder of the work under way")
    parser.add_argument("--output_dir", default="training/example_output/memmap", help="folder the store goes into")
    rules, places = "how frames are picked (default exact; ffmpeg: as its fps filter)", "where frames get their sizes (default: on a GPU)"
    parser.add_argument("--frame_rule", choices=FRAME_RULES, default=FRAME_RULES[0], help=rules)
    parser.add_argument("--resize", choices=RESIZES, default="auto", help=places)
    add_common_options(parser, batch_size=16, num_workers=16)
    problems = Problems()
    options = parse_options(parser, None, problems)
    folder, tsv, output = Path(options.data_dir), Path(options.tsv), Path(options.output_dir)

    def find() -> Inputs:
        if folder == DEFAULT_DATA:  # every process may: the files are the same ones, each put in place at once
            make_guide_example(EXAMPLE_FOLDER)
        return find_videos(folder, tsv)

    stage = ExtractionKind(
        find=find,
        tables=(tsv,),
        target=StoreTarget(output, options.name, options.replace, options.append),
        needs=FOR_VIDEO,
        rules=ReadingRules(options.normalize_audio == "true", options.frame_rule, options.resize),
    )
    return run_extraction(options, problems, stage)


if __name__ == "__main__":
    run_entry_point(main, speaks=lambda: read_ranks().is_first)
