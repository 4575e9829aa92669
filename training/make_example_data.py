"""Make example media: the training guide's two videos and two recordings, and with --learning_set also a set to learn from.

python training/make_example_data.py
python training/make_example_data.py --learning_set training/example_learning --num_train 480
"""

from dataclasses import fields
from pathlib import Path

from mmaudio.base.errors import Problems, run_entry_point
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.media.synthetic import LearningSet, make_guide_example, make_learning_set


def main() -> int:
    parser = options_parser("make_example_data.py", "Make example media by code.", "python training/make_example_data.py")
    parser.add_argument("--output_dir", default="training", help="folder of the guide's example (default training)")
    parser.add_argument("--learning_set", default=None, help="folder of the learning set; none is made unless this is given")
    for field in fields(LearningSet):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, help=f"learning set (default {field.default})"
        )
    problems = Problems()
    options = parse_options(parser, None, problems)
    problems.raise_any()
    start_logging()
    make_guide_example(Path(options.output_dir))
    if options.learning_set is not None:
        make_learning_set(Path(options.learning_set), LearningSet(**{f.name: getattr(options, f.name) for f in fields(LearningSet)}))
    return 0


if __name__ == "__main__":
    run_entry_point(main)
