"""Mistakes are collected, said once each, and end the process with the right code."""

import errno

import pytest

from mmaudio.base.errors import EXIT_USER_ERROR, Problems, UserError, nearest, run_entry_point, sentence_of


def fail(*sentences):
    raise UserError(*sentences)


def test_problems_collects_each_sentence_once():
    problems = Problems()
    problems.raise_any()
    problems.add("one")
    assert problems.check(lambda: 5) == 5
    assert problems.check(lambda: fail("two", "one")) is None
    with pytest.raises(UserError) as caught:
        problems.raise_any()
    assert caught.value.sentences == ("one", "two")
    assert str(caught.value) == "one\ntwo"


def test_problems_lets_bugs_through():
    with pytest.raises(ZeroDivisionError):
        Problems().check(lambda: 1 / 0)


def test_nearest():
    assert nearest("batch_sze", ["batch_size", "seed"]) == " (did you mean 'batch_size'?)"
    assert nearest("xyz", ["batch_size", "seed"]) == ""
    assert nearest("model.ema", ["a_rather_long_group.of_settings.ema", "seed"]) == " (did you mean 'a_rather_long_group.of_settings.ema'?)"
    assert nearest("x", []) == ""


def test_exit_codes(capsys):
    for result, code in ((None, 0), (0, 0), (3, 3)):
        with pytest.raises(SystemExit) as left:
            run_entry_point(lambda result=result: result)
        assert left.value.code == code
    with pytest.raises(SystemExit) as left:
        run_entry_point(lambda: fail("one", "two"))
    assert left.value.code == EXIT_USER_ERROR
    assert capsys.readouterr().err == "error: one\nerror: two\n"
    with pytest.raises(ZeroDivisionError):
        run_entry_point(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("a is missing", "b is torn"), "a is missing; b is torn"),
        (OSError(errno.ENOSPC, "No space left on device", "x/y.flac"), "x/y.flac: No space left on device"),
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (RuntimeError("CUDA out of memory.\nTried to …"), "RuntimeError: CUDA out of memory."),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_error_in_a_line(error, sentence):
    assert sentence_of(error) == sentence
