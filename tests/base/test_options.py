"""Options of the scripts: what is wrong is a sentence, with the nearest right name."""

import pytest

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.options import options_parser, parse_options


@pytest.fixture
def parser():
    made = options_parser("extract", "Does things.", "extract --mode 16k")
    made.add_argument("--mode", choices=["16k", "44k"], default="16k")
    made.add_argument("--batch_size", type=int, default=32)
    return made


def said(parser, *argv):
    problems = Problems()
    options = parse_options(parser, argv, problems)
    return options, problems.sentences


def test_what_is_right_is_silent(parser):
    options, sentences = said(parser, "--mode", "44k", "--batch_size=4")
    assert (options.mode, options.batch_size, sentences) == ("44k", 4, [])


def test_every_unknown_option_is_named_with_the_nearest(parser):
    options, sentences = said(parser, "--batchsize=3", "--mod", "44k", "--mode", "44k", "--zzz")
    assert sentences == [
        "unknown option --batchsize (did you mean '--batch_size'?); see extract --help",
        "unknown option --mod (did you mean '--mode'?); see extract --help",
        "unknown option --zzz; see extract --help",
    ]
    assert options.mode == "44k"
    assert said(parser, "stray")[1] == ["unexpected argument 'stray'; see extract --help"]


def test_wrong_values_are_user_errors(parser):
    with pytest.raises(UserError, match="argument --batch_size: invalid int value: 'x'; see extract --help"):
        said(parser, "--batch_size", "x")
    with pytest.raises(UserError, match="argument --mode: invalid choice"):
        said(parser, "--mode", "8k")


def test_help_ends_in_an_example(parser):
    assert parser.format_help().endswith("example:\n  extract --mode 16k\n")
