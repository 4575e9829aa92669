"""What a verification says of stores that are whole, and of every way in which rows can be wrong."""

import json

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.store import record_path, table_path
from mmaudio.store.compare import RowComparison, errors_of, limits_of, relative_error, shift_of
from mmaudio.store.row_check import Encoded, check_sample, check_words, draw_rows
from mmaudio.store.verify import verify_store
from tests.store.examples import features, forget_record, index_of, make_store, text_of


def verified(folder, name="s"):
    return {check.name: check for check in verify_store(table_path(folder / name), folder / name)[1]}


def wrong(folder):
    return {name: check.problems for name, check in verified(folder).items() if check.problems}


def column(folder, name, dtype="<f4"):
    """A column on disk as rows that can be written to."""
    shape = json.loads((folder / "s" / "meta.json").read_text())[name]["shape"]
    return np.memmap(folder / "s" / f"{name}.memmap", dtype, "r+", shape=tuple(shape))


def rewrite_record(folder, **changes):
    path = record_path(folder / "s")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("layout", ["compact", "published"])
def test_a_whole_store_holds_in_every_check(tmp_path, kind, layout):
    index = index_of(9)
    values = features(kind, 9)
    values["std"] = values["std"].abs()
    make_store(tmp_path, "s", kind, index, values, layout=layout)
    found = verified(tmp_path)
    assert list(found) == ["files", "record", "ids", "rows", "captions", "numbers", "std", "statistics", "null text"]
    assert all(check.said and not check.problems for check in found.values())
    assert "9 rows" in found["files"].said


def whole_store(folder, kind="audio", num_rows=9, **options):
    values = features(kind, num_rows)
    values["std"] = values["std"].abs()
    return make_store(folder, "s", kind, options.pop("index", index_of(num_rows)), values, **options)


def test_what_the_published_system_wrote_needs_no_record_and_no_null_text(tmp_path):
    whole_store(tmp_path, layout="published")
    forget_record(tmp_path, "s")
    (tmp_path / "s.empty_string.pth").unlink()
    found = verified(tmp_path)
    assert not any(check.problems for check in found.values())
    assert "no record" in found["record"].said
    assert "none" in found["null text"].said


@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
@pytest.mark.parametrize(("name", "row"), [("mean", 0), ("std", 8), ("clip_features", 4), ("sync_features", 5)])
def test_numbers_that_are_not_finite_are_named_by_row(tmp_path, monkeypatch, name, row, block_bytes):
    monkeypatch.setattr("mmaudio.store.verify.BLOCK_BYTES", block_bytes)
    whole_store(tmp_path, "video", layout="published")
    column(tmp_path, name)[row, 1, 2] = np.nan
    found = wrong(tmp_path)
    assert list(found) == ["numbers"]
    (said,) = found["numbers"]
    assert f"{name} holds numbers that are not finite in row {row} (id 'row{row}')" in said


def test_a_text_that_is_not_finite_is_named_by_the_rows_that_use_it(tmp_path):
    whole_store(tmp_path, dtypes={"text": torch.float32})
    column(tmp_path, "text_table")[1, 0, 0] = np.inf
    assert "text_table holds numbers that are not finite in row 1 (id 'row1'), row 4 (id 'row4'), row 7 (id 'row7')" in str(wrong(tmp_path))


def test_many_rows_are_counted_and_the_first_named(tmp_path):
    whole_store(tmp_path)
    column(tmp_path, "std")[2:] = -1
    (said,) = wrong(tmp_path)["std"]
    assert "row 2 (id 'row2'), row 3 (id 'row3'), row 4 (id 'row4') and 4 more" in said


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a", "b", "a", "c"], "row 2 has the id 'a' of row 0"),
        (["a", "", "b", "c"], "row 1 has an empty id"),
    ],
)
def test_ids_that_are_repeated_or_empty(tmp_path, ids, said):
    whole_store(tmp_path, num_rows=4)
    table_path(tmp_path / "s").write_text("id\tcaption\n" + "".join(f"{a}\tcaption {n % 3}\n" for n, a in enumerate(ids)))
    found = wrong(tmp_path)
    assert said in found["ids"][0]
    assert "are not those that store" in found["rows"][0]


def test_a_store_that_was_cut_short(tmp_path):
    whole_store(tmp_path)
    with open(tmp_path / "s" / "std.memmap", "r+b") as file:
        file.truncate(1000)
    store, checks = verify_store(table_path(tmp_path / "s"), tmp_path / "s")
    assert store is None
    (check,) = checks
    assert "std.memmap has 1000 bytes" in check.problems[0]


def test_a_column_that_is_longer_than_its_rows(tmp_path):
    whole_store(tmp_path)
    with open(tmp_path / "s" / "std.memmap", "ab") as file:
        file.write(b"12345678")
    assert "std.memmap has 8 bytes more than its 9 rows" in wrong(tmp_path)["files"][0]


def test_counts_that_do_not_agree(tmp_path):
    whole_store(tmp_path)
    text = table_path(tmp_path / "s").read_text()
    table_path(tmp_path / "s").write_text(text + "more\tx\n")
    assert "lists 10 rows" in wrong(tmp_path)["files"][0]


def test_a_record_of_something_else(tmp_path):
    whole_store(tmp_path, "video")
    good = json.loads(record_path(tmp_path / "s").read_text())
    rewrite_record(tmp_path, dtypes=good["dtypes"] | {"clip_features": "float16"}, duration_s=8.0)
    found = wrong(tmp_path)["record"]
    assert "clip_features is bfloat16 and the record says float16" in found[0]
    assert "mean has 20 tokens of 20 where clips of 8 s in mode 16k have 250 of 20" in found[1]
    rewrite_record(tmp_path, **good | {"kind": "audio"})
    assert "kind audio" in wrong(tmp_path)["record"][0]


def test_statistics_that_are_not_those_of_the_data(tmp_path):
    store = whole_store(tmp_path)
    wanted = store.record.latent_mean
    rewrite_record(tmp_path, latent_mean=[wanted[0] + 1e-8, *wanted[1:]])
    assert not wrong(tmp_path)
    rewrite_record(tmp_path, latent_mean=[wanted[0], wanted[1] + 1e-4, *wanted[2:]])
    assert "latent_mean of channel 1" in wrong(tmp_path)["statistics"][0]
    rewrite_record(tmp_path, latent_mean=wanted[:3])
    assert "of 3 channels" in wrong(tmp_path)["statistics"][0]


def test_captions_and_their_texts_in_the_compact_layout(tmp_path):
    whole_store(tmp_path)
    places = column(tmp_path, "text_row", "<i4")
    places[4] = 2  # its caption is that of row 1, and the text that of row 2
    (said, also) = wrong(tmp_path)["captions"]
    assert "row 4 (id 'row4') has the caption of row 1 (id 'row1'), 'caption 1', and another text feature" in said
    assert "row 4 (id 'row4') has the text feature of row 2 (id 'row2') and another caption" in also
    places[4] = 7
    assert "points at captions beyond its 3" in wrong(tmp_path)["captions"][0]


def test_captions_and_their_texts_in_the_published_layout(tmp_path):
    whole_store(tmp_path, layout="published")
    texts = column(tmp_path, "text_features")
    texts[4] *= np.float32(1 + 1e-6)  # as an encoder gives that ran in other batches
    assert not wrong(tmp_path)
    texts[4, 0] += 1
    (said,) = wrong(tmp_path)["captions"]
    assert "row 4 (id 'row4') has the caption of row 1 (id 'row1'), 'caption 1', and another text feature" in said


def test_null_text(tmp_path):
    whole_store(tmp_path, layout="published")
    path = tmp_path / "s.empty_string.pth"
    torch.save(text_of("")[None] * float("nan"), path)
    assert "not finite" in wrong(tmp_path)["null text"][0]
    path.write_bytes(b"no tensor")
    assert wrong(tmp_path)["null text"]
    path.unlink()
    assert "has none" in wrong(tmp_path)["null text"][0]


def test_a_store_that_is_not_there_is_a_mistake_and_no_finding(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        verify_store(tmp_path / "s.tsv", tmp_path / "s")
    (tmp_path / "s").mkdir()
    with pytest.raises(UserError, match="has no table"):
        verify_store(tmp_path / "s.tsv", tmp_path / "s")


# ---- comparing with what the media give


def rows_of(num_rows, kind="video"):
    values = features(kind, num_rows)
    return [{name: column[row] for name, column in values.items()} | {"text_features": text_of(f"c{row}")} for row in range(num_rows)]


def compared(stored, found, sampled=None, limits=None):
    comparison = RowComparison(stored.__getitem__, len(stored), sampled or range(len(stored)), limits or limits_of({}))
    findings = [comparison.compare(row, found[row]) for row in (sampled or range(len(stored)))]
    return [finding for finding in findings if finding is not None]


def test_relative_error_by_hand():
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == pytest.approx(0.75)
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.ones(3), torch.zeros(3)) == float("inf")
    assert relative_error(torch.zeros(3, 2), torch.zeros(2, 2)) == float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_storing_stays_below_the_limit_and_another_row_far_above(dtype):
    limits = limits_of(dict.fromkeys(("clip_features", "sync_features", "text_features"), dtype))
    for row in rows_of(4):
        stored = {name: value.to(dtype) for name, value in row.items()}
        errors = errors_of(row, stored | {name: row[name] for name in ("mean", "std")})
        assert all(errors[modality] < limits[modality] for modality in errors)
        assert errors["picture"] <= torch.finfo(dtype).eps / 2, "no number moves by more than half the distance to the next"
    assert max(limits.values()) < 0.04


def test_rows_that_belong_give_no_finding():
    assert compared(rows_of(6), rows_of(6)) == []


def test_sound_of_two_rows_exchanged():
    stored = rows_of(9)
    for name in ("mean", "std"):
        stored[2][name], stored[6][name] = stored[6][name], stored[2][name]
    first, second = compared(stored, rows_of(9))
    assert (first.row, set(first.errors), first.places) == (2, {"sound"}, {"sound": 6})
    assert (second.row, second.places) == (6, {"sound": 2})
    said = first.sentence(lambda row: f"row{row}")
    assert said.startswith("row 2 (id 'row2'): sound (error 1.")
    assert said.endswith("is not its own, which is in row 6 (id 'row6')")
    assert shift_of([first, second], 9) is None
    alone = compared(stored, rows_of(9), [0, 2, 8])
    assert alone[0].places == {}, "row 6 is neither a neighbour nor in the sample"
    assert "which is in none of the rows looked at" in alone[0].sentence(str)


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("sampled", [[0, 9], [0, 3, 6, 9], range(10)])
def test_a_table_shifted_by_one_row(by, sampled):
    stored = rows_of(10)
    media = [stored[(row + by) % 10] for row in range(10)]
    findings = compared(stored, media, sampled)
    assert len(findings) == len(sampled)
    assert shift_of(findings, len(sampled)) == by


def test_a_shift_that_starts_halfway():
    stored = rows_of(10)
    media = [*stored[:5], *stored[6:], stored[0]]
    assert shift_of(compared(stored, media), 10) == 1


def test_neighbours_exchanged_in_pairs_are_no_shift():
    stored = rows_of(10)
    assert shift_of(compared(stored, [stored[row ^ 1] for row in range(10)]), 10) is None
    assert shift_of(compared(stored, [stored[row] for row in (0, 2, 1, *range(3, 10))]), 10) is None


def test_a_row_that_is_not_finite_is_not_its_own():
    stored = rows_of(3)
    stored[1] = stored[1] | {"mean": stored[1]["mean"] * float("nan")}
    (finding,) = compared(stored, rows_of(3))
    assert set(finding.errors) == {"sound"}


@pytest.mark.parametrize(("num", "num_rows"), [(1, 1), (1, 9), (2, 9), (5, 9), (9, 9), (50, 9), (20, 1000)])
def test_rows_are_drawn_all_over_the_store(num, num_rows):
    rows = draw_rows(num, num_rows, seed=3)
    assert rows == draw_rows(num, num_rows, seed=3) == sorted(set(rows))
    assert len(rows) == min(max(num, 2), num_rows)
    assert (rows[0], rows[-1]) == (0, num_rows - 1)
    if num == 20:
        assert rows != draw_rows(num, num_rows, seed=4)
        assert max(np.diff(rows)) < 2 * 1000 / 18 + 1


def sampled(store, encoded):
    return check_sample(store, encoded, range(store.num_rows), limits_of({"text_features": store.dtype("text_features")}))


def stored_features(store, row):
    return {name: value[0].float() for name, value in store.gather(torch.tensor([row])).items()} | {
        "text_features": text_of(store.captions[row])
    }


def test_a_sample_names_what_is_not_its_own_and_what_could_not_be_read(tmp_path):
    store = whole_store(tmp_path, num_rows=6)
    encoded = [Encoded(row, stored_features(store, row)) for row in range(6)]
    encoded[3] = Encoded(3, {"text_features": text_of(store.captions[3])}, "the file is empty")
    found = sampled(store, encoded)
    assert found.problems == ("row 3 (id 'row3'): its media cannot be read: the file is empty",)
    assert found.said.startswith("sound of 5 rows are those of their media")
    shifted = [Encoded(row, stored_features(store, (row + 1) % 6)) for row in range(6)]
    found = sampled(store, shifted)
    assert "sound (error " in found.problems[0] and "which are in row 1 (id 'row1')" in found.problems[0]
    assert "the table seems shifted by one row" in found.problems[-1]
    assert found.rows[0]["places"] == {"caption": 1, "sound": 1}
    json.dumps(found.rows, allow_nan=False)


def test_words_of_captions(tmp_path):
    store = whole_store(tmp_path, num_rows=6)
    right = dict(zip(store.ids, store.captions, strict=True))
    assert check_words(store, right, "set.tsv").problems == ()
    exchanged = right | {"row1": right["row2"], "row2": right["row1"]}
    found = check_words(store, exchanged, "set.tsv")
    assert found.problems == (
        "row 1 (id 'row1') has the caption 'caption 1' and set.tsv says 'caption 2'",
        "row 2 (id 'row2') has the caption 'caption 2' and set.tsv says 'caption 1'",
    )
    del right["row5"]
    assert "; 1 row is not in it" in check_words(store, right, "set.tsv").said
