"""Ledgers, manifests and notes of work under way that hold something else: refused in one sentence, or without effect on the store."""

import copy
import json
import random
import shutil
from contextlib import closing

import numpy as np
import pytest

from mmaudio.base.errors import UserError
from mmaudio.extraction.progress import ProgressLog
from tests.extraction.test_missing_rows import STAGES, cases, content, media, one_error  # noqa: F401 - fixtures

JUNK = (
    *(None, True, False, 0, 1, -1, 2, 99, 10**30, 0.5, 1.0, -0.0, float("inf"), float("nan"), "", "x", "1", "done", "closing"),
    *([], [0], [[0]], [[[1]]], [None], [True], ["a"], [[0, "a", "b"]], [[0, 1, 2]], {}, {"kept": [0], "rejected": []}),
)
LINES = ("", "x", "a\tb\tc", "\x00", "c0\t/etc/passwd", "c0\t../x", "id", '"')


def places(value, at=()):
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def mutated(value, draw):
    """A JSON value with one thing in it replaced, removed or added."""
    value, how = copy.deepcopy(value), draw.choice(("replace", "replace", "replace", "remove", "add"))
    at = draw.choice(list(places(value)))
    if not at:
        return draw.choice(JUNK)
    owner = value
    for key in at[:-1]:
        owner = owner[key]
    if how == "remove":
        del owner[at[-1]]
    elif how == "add" and isinstance(owner, list):
        owner.insert(at[-1], draw.choice(JUNK))
    else:
        owner["more" if how == "add" else at[-1]] = draw.choice(JUNK)
    return value


def test_lines_of_a_ledger(tmp_path):
    """With their checksum, any change is noticed; without, as the version before wrote lines, all that is counted is of the right kind."""
    draw, num = random.Random(3), 6
    with closing(ProgressLog(tmp_path, "rows", 2)) as progress_log:
        progress_log.add([0, 3], {1: ("read", "no")}, {0: (10, 1), 1: (11, 1), 3: (12, 1)}, [2], {0: [1, 2], 3: [3, 4]})
    (path,) = progress_log.files()
    line, whole = json.loads(path.read_text()), progress_log.read(num)
    without = {key: value for key, value in line.items() if key != "crc32"}
    num_told = 0
    for number in range(800):
        of_before = number % 2 == 0
        path.write_text(json.dumps(mutated(without if of_before else line, draw)) + "\n")
        try:
            found = progress_log.read(num)
        except UserError as error:
            num_told += str(error).startswith(f"{path}, line 1 is no entry of an extraction")
            continue
        assert of_before or np.array_equal(found.states, whole.states)
        assert set(found.reasons) == set(np.flatnonzero(found.states == 2).tolist())
        assert all(isinstance(text, str) for reason in found.reasons.values() for text in reason)
    assert num_told > 450


@pytest.mark.parametrize("line", ["[" * 100_000, "null", "3", '"kept"', "true", '{"kept": [1e2], "rejected": []}', "9" * 5000])
def test_lines_that_are_none(tmp_path, line):
    path = tmp_path / f"rows.{1:020d}-0.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(UserError, match="line 1 is no entry of an extraction"):
        ProgressLog(tmp_path, "rows").read(3)


def test_captions_are_never_rejected(tmp_path):
    with closing(ProgressLog(tmp_path, "captions")) as progress_log:
        progress_log.add([], {0: ("read", "no")})
    with pytest.raises(UserError, match="is no entry"):
        ProgressLog(tmp_path, "captions", may_reject=False).read(1)


@pytest.mark.parametrize("name", ["rows.x.jsonl", "rows.-1.jsonl", f"rows.{10**20}-0.jsonl", f"rows.{10**30}-0.jsonl"])
def test_ledgers_of_no_time(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="is no ledger of an extraction"):
        ProgressLog(tmp_path, "rows").read(1)


def change(path, draw):
    """Change one thing in a file of the work under way; in a manifest sometimes as the version before wrote it, without a checksum."""
    text = path.read_text()
    lines = text.splitlines()
    number = draw.randrange(len(lines))
    if path.suffix == ".jsonl":
        lines[number] = json.dumps(mutated(json.loads(lines[number]), draw))
    elif path.suffix == ".json":
        of_before = path.name == "manifest.json" and draw.random() < 0.5
        lines = [json.dumps(mutated({key: value for key, value in json.loads(text).items() if key != "checksum" or not of_before}, draw))]
    else:
        lines[number] = draw.choice((*LINES, lines[0]))
    path.write_text("\n".join(lines) + "\n")


def check_changed(run_script, cases, draw, num):  # noqa: F811
    for _ in range(num):
        case = cases(run_script, "audio", draw.choice(("compact", "published")), draw.random() < 0.5)
        stage = draw.choice(list(STAGES))
        parts = case.bring_back(stage)
        files = [path for path in sorted(parts.iterdir()) if path.suffix in (".json", ".jsonl", ".tsv")]
        if files:
            path = draw.choice(files)
            change(path, draw)
            said = (case.layout, case.is_added, stage, path.name, path.read_text())
            ended = case.go_on(run_script)
            if ended.code == 3:
                assert content(case.place) == case.whole, said
            else:
                assert one_error(ended), said
        shutil.rmtree(case.place)


def test_files_of_the_work_under_way(run_script, cases):  # noqa: F811
    check_changed(run_script, cases, random.Random(4), 12)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_many_files_of_the_work_under_way(run_script, cases, seed):  # noqa: F811
    check_changed(run_script, cases, random.Random(f"soak {seed}"), 500)
