"""Numbers on cached features: the golden ones, whatever the ids look like; a reason wherever there is none."""

import json
import shutil

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.metrics.feature_cache import clean_sample_name, read_features, write_features
from mmaudio.metrics.feature_scores import measure
from mmaudio.metrics.registry import CACHED
from tests.encoders.sharp_sync import sync_state
from tests.metrics.golden_caches import AWKWARD_IDS, METRICS, NAMES, write_golden_caches

REL = {"FD": 1e-5}
PLAIN = [name for name in CACHED if name != "DeSync"]
FAST = ["KL-PASST-softmax", "FD-PASST", "MS-CLAP-Score"]


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return write_golden_caches(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def head_state():
    return sync_state("compare", "sharp")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("mmaudio.metrics.formulas.NUM_REDRAWS", 20)


def check(measured, golden):
    json.dumps(measured.values, allow_nan=False)
    told = {name: entry["value"] for name, entry in measured.values.items() if entry["value"] is not None}
    assert list(told) == list(golden)
    for name, value in golden.items():
        assert told[name] == pytest.approx(value, rel=1e-5 if name.startswith("FD") else 1e-6), name


def test_golden_full_with_intervals_and_numbers_of_clips(caches, head_state):
    measured = measure(["av_bench"], *caches, sync_weights=lambda: head_state)
    check(measured, METRICS["evaluate_full"])
    for name, entry in measured.values.items():
        assert entry["num"] == 24
        if name.endswith("std"):
            assert entry["interval"] is None
        else:
            assert entry["interval"][0] <= entry["value"] <= entry["interval"][1], name
    assert set(measured.per_clip) == {name for name in CACHED if name.startswith(("KL", "IB", "DeSync", "LAION", "MS"))}
    for name, numbers in measured.per_clip.items():
        assert list(numbers) == NAMES
        assert np.mean(list(numbers.values())) == pytest.approx(measured.values[name]["value"])
    assert measured.counts == {
        "reference": 24,
        "predicted": 24,
        "paired": 24,
        "missing_ids": [],
        "unexpected_ids": [],
        "without_features": {},
    }


def test_golden_without_video_and_captions_and_unpaired(caches):
    skipped = [name for name in PLAIN if name.startswith(("FD", "KL", "ISC"))]
    check(measure(skipped, *caches), METRICS["evaluate_skip_video_and_clap"])
    unpaired = measure(["av_bench"], *caches, paired=False)
    check(unpaired, METRICS["evaluate_unpaired"])
    assert "unpaired" in unpaired.values["DeSync"]["reason"]
    assert unpaired.per_clip == {}


def test_golden_with_one_clip_missing_on_each_side(tmp_path, head_state):
    golden = METRICS["evaluate_with_missing"]
    missing = golden["removed_from_pred"], golden["removed_from_gt"]
    folders = write_golden_caches(tmp_path, missing_reference=missing[1], missing_predicted=missing[0])
    measured = measure(["av_bench"], *folders, sync_weights=lambda: head_state)
    check(measured, golden["metrics"])
    counts = measured.counts
    assert (counts["reference"], counts["predicted"], counts["paired"]) == (23, 23, 22)
    assert (counts["missing_ids"], counts["unexpected_ids"]) == ([missing[0]], [missing[1]])
    assert {measured.values[name]["num"] for name in ("FD-PANN", "FD-PASST")} == {22, 23}
    with pytest.raises(UserError, match=r"22 of 23 reference clips are paired .*missing are 'f05.* at least 0\.96"):
        measure(FAST, *folders, min_coverage=0.96)
    assert measure(FAST, *folders, min_coverage=0.95).counts["paired"] == 22
    chosen = measure(FAST, *folders, ids=NAMES[:6])
    assert (chosen.counts["reference"], chosen.counts["paired"]) == (6, 4)
    assert chosen.counts["missing_ids"] == sorted(missing)


def test_the_weights_are_read_for_desync_alone_and_refused_if_of_something_else(caches, tmp_path):
    def never():
        raise AssertionError("read")

    assert measure(FAST, *caches, sync_weights=never).values["FD-PASST"]["num"] == 24
    assert "fetch them" in measure(["DeSync"], *caches).values["DeSync"]["reason"]
    with pytest.raises(UserError, match="comparison head"):
        measure(["DeSync"], *caches, sync_weights=lambda: {"transformer.x": torch.zeros(1)})
    with pytest.raises(UserError, match="no file of Synchformer's weights at"):
        measure(["DeSync"], *caches, sync_weights=tmp_path / "none.pth")


IDS = [*AWKWARD_IDS, "x" * 18]


def test_ids_of_any_length_and_with_dots_pair_exactly_and_are_cleaned_only_where_asked(tmp_path):
    real, generated = tmp_path / "real", tmp_path / "generated"
    values = torch.randn(len(IDS), 6)
    write_features(real, "passt_logits", dict(zip(IDS, values, strict=True)))
    write_features(generated, "passt_logits", dict(zip(reversed(IDS), values.flip(0), strict=True)))
    exact = measure(["KL-PASST-softmax"], real, generated)
    assert exact.counts["paired"] == len(IDS)
    assert exact.values["KL-PASST-softmax"]["value"] == pytest.approx(0, abs=1e-12)
    assert set(exact.per_clip["KL-PASST-softmax"]) == set(IDS)
    none = measure(["KL-PASST-softmax"], real, generated, clean_names=True, min_coverage=0.1)  # three names clean to one
    assert "and another name both clean to 'zxpo56cpUBU_000007'" in none.values["KL-PASST-softmax"]["reason"]
    write_features(generated, "passt_logits", {IDS[4]: values[1], IDS[3]: values[2]})
    cleaned = measure(["KL-PASST-softmax"], real, generated, clean_names=True)
    assert list(cleaned.per_clip["KL-PASST-softmax"]) == ["zxpo56cpUBU_000007"]
    for name, want in METRICS["elementary"]["clean_sample_name"].items():
        assert clean_sample_name(name) == want


def put(folder, stem, change):
    write_features(folder, stem, change(read_features(folder, stem)))


def raw(folder, stem, change):
    torch.save(change(read_features(folder, stem)), folder / "new")  # what was read is mapped, so it is replaced and not overwritten
    (folder / "new").rename(folder / f"{stem}.pth")


DAMAGES = {
    "a missing file": (lambda real, own: (own / "passt_logits.pth").unlink(), r"no passt_logits\.pth in .*predicted; make these"),
    "an empty file": (lambda real, own: put(own, "passt_logits", lambda _: {}), "holds no clip; make"),
    "other ids": (lambda real, own: put(own, "passt_logits", lambda all: {"é" + i: v for i, v in all.items()}), "ids must be equal"),
    "NaN": (lambda real, own: raw(own, "passt_logits", lambda all: {i: v * torch.nan for i, v in all.items()}), "'a00_.* NaN or infinity"),
    "another shape": (lambda real, own: raw(own, "passt_logits", lambda all: {i: v[None] for i, v in all.items()}), "'a00_.* has shape"),
    "other classes": (
        lambda real, own: put(own, "passt_logits", lambda all: {i: v[:9] for i, v in all.items()}),
        "of the same classes",
    ),
    "a torn file": (lambda real, own: (own / "passt_logits.pth").write_bytes(b"PK"), "torn"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_what_cannot_be_told_is_null_with_a_reason_and_the_rest_is_told(caches, tmp_path, damage, words):
    folders = [tmp_path / folder.name for folder in caches]
    for folder, copy in zip(caches, folders, strict=True):
        shutil.copytree(folder, copy, ignore=lambda _, names: [name for name in names if name.startswith("synch")])
    damage(*folders)
    measured = measure(["KL-PASST-softmax", "MS-CLAP-Score"], *folders)
    entry = measured.values["KL-PASST-softmax"]
    assert (entry["value"], entry["interval"], entry["num"]) == (None, None, 0)
    torch.testing.assert_close(measured.values["MS-CLAP-Score"]["value"], METRICS["evaluate_full"]["MS-CLAP-Score"], rtol=1e-6, atol=0)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(entry["reason"])


@pytest.mark.parametrize(("num", "words"), [(0, "holds no clip"), (1, "needs at least 2"), (9, "at least 10 clips")])
def test_too_few_clips_are_a_sentence_never_a_number(caches, tmp_path, num, words):
    for folder in caches:
        for stem in ("pann_features", "passt_logits", "passt_features_embed"):
            features = read_features(folder, stem)
            write_features(tmp_path / folder.name, stem, {name: features[name] for name in NAMES[:num]})
    values = measure(["FD-PANN", "FD-PASST", "ISC-PANNS-mean", "ISC-PASST-std"], tmp_path / "reference", tmp_path / "predicted").values
    for name, entry in values.items():
        if num == 9 and name.startswith("FD"):
            assert entry["value"] > 0 and entry["interval"] is None
            continue
        assert entry["value"] is None, name
        assert words in entry["reason"] or "at least 10 clips" in entry["reason"], entry["reason"]


def test_clips_without_features_are_named_and_desync_names_what_it_cannot_judge(caches, tmp_path, head_state):
    real, own = (tmp_path / folder.name for folder in caches)
    for folder, copy in zip(caches, (real, own), strict=True):
        for stem in ("passt_logits", "synchformer_video" if copy == real else "synchformer_audio"):
            features = read_features(folder, stem)
            some = NAMES[:3] if stem.startswith("synch") else NAMES[:4]
            write_features(copy, stem, {name: features[name] for name in some})
    measured = measure(["KL-PASST-softmax", "DeSync"], real, own, sync_weights=lambda: head_state)
    assert measured.counts["without_features"] == {"reference/synchformer_video": [NAMES[3]], "predicted/synchformer_audio": [NAMES[3]]}
    assert (measured.values["DeSync"]["num"], measured.values["KL-PASST-softmax"]["num"]) == (3, 4)
    strict = measure(["KL-PASST-softmax", "DeSync"], real, own, sync_weights=lambda: head_state, min_coverage=0.9)
    assert "only 3 clips have both" in strict.values["DeSync"]["reason"]
    put(own, "synchformer_audio", lambda all: {**all, NAMES[1]: all[NAMES[1]][:20]})
    assert "b01_-QwErTy_000007' have unlike lengths (24 and 20" in measure(["DeSync"], real, own).values["DeSync"]["reason"]
    put(own, "synchformer_audio", lambda all: {name: value[:13] for name, value in all.items()})
    put(real, "synchformer_video", lambda all: {name: value[:13] for name, value in all.items()})
    assert "fewer than 14 segments" in measure(["DeSync"], real, own).values["DeSync"]["reason"]


def test_what_is_no_cached_metric_and_no_folder_is_refused(caches, tmp_path):
    with pytest.raises(UserError, match="onset_f1 is computed from sounds"):
        measure(["onset_f1"], *caches)
    with pytest.raises(UserError, match="did you mean 'FD-VGG'"):
        measure(["FD-VGGish"], *caches)
    with pytest.raises(UserError, match="no folder of cached features at"):
        measure(["FD-VGG"], caches[0], tmp_path / "none")


def test_a_mistake_of_ours_is_no_reason(caches, monkeypatch):
    """Only what cannot be told is a null; a formula that is called wrongly ends with its traceback."""

    def wrong(metric, sides, conditions):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr("mmaudio.metrics.feature_scores.FORMULAS", {"kl": wrong})
    with pytest.raises(ValueError, match="shapes do not fit"):
        measure(["KL-PASST-softmax"], *caches)


def test_features_of_two_models_are_a_sentence(tmp_path):
    real, own = tmp_path / "real", tmp_path / "own"
    for stem in ("vggish_features", "imagebind_video", "imagebind_audio"):
        for folder, width in ((real, 4), (own, 6)):
            shape = (2, width) if stem == "vggish_features" else (width,)
            write_features(folder, stem, {name: torch.rand(shape) for name in "abc"})
    values = measure(["FD-VGG", "IB-Score"], real, own).values
    assert "4 dims in the reference and 6 in what was predicted; make both by one model" in values["FD-VGG"]["reason"]
    assert "are not of the same dims: 4 in the reference and 6" in values["IB-Score"]["reason"]


def test_clips_without_any_vector_leave_no_interval(tmp_path):
    """Drawn again, such a set may be empty."""
    for folder in ("real", "own"):
        few = {f"{place:02d}": torch.rand((2 if place == 0 else 0, 4)) for place in range(12)}
        write_features(tmp_path / folder, "vggish_features", few)
    told = measure(["FD-VGG"], tmp_path / "real", tmp_path / "own").values["FD-VGG"]
    assert told["value"] >= 0 and told["interval"] is None
