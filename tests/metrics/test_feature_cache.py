"""Cache files come back as they went in, are those of the published package, and are refused by name where they are not."""

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.metrics.feature_cache import CACHE_FILES, read_features, write_features
from tests.metrics.golden_caches import AWKWARD_IDS, NAMES, golden_features, tree

IDS = [*AWKWARD_IDS, "né"]


def test_golden_caches_come_back_as_the_published_package_reads_them(tmp_path):
    for folder, side in zip((tmp_path / "a", tmp_path / "b"), golden_features(), strict=True):
        for stem, features in side.items():
            if stem.startswith("synchformer"):
                features = {name: features[name] for name in NAMES[:2]}
            path = write_features(folder, stem, features)
            assert path.name == f"{stem}.pth"
            assert tree(torch.load(path, weights_only=True)) == tree(features) == tree(read_features(folder, stem))
        assert not [left for left in folder.iterdir() if left.suffix != ".pth"]


def test_a_whole_value_of_the_published_file_is_kept_and_unknown_parts_are_not(tmp_path):
    value = {"2048": torch.rand(2048), "logits": torch.randn(527), "clipwise_output": torch.rand(527), "more": torch.zeros(1)}
    write_features(tmp_path, "pann_features", {"a": value})
    assert list(read_features(tmp_path, "pann_features")["a"]) == ["2048", "logits", "clipwise_output"]


def test_ids_are_kept_exactly_and_sorted_and_tensors_stand_alone(tmp_path):
    batch = torch.randn(len(IDS), 4000, dtype=torch.float64)
    path = write_features(tmp_path, "clap_ms_text", dict(zip(IDS, batch, strict=True)))
    read = read_features(tmp_path, "clap_ms_text")
    assert list(read) == sorted(IDS)
    for clip_id, row in zip(IDS, batch, strict=True):
        assert read[clip_id].dtype == torch.float32 and torch.equal(read[clip_id], row.float())
    assert path.stat().st_size < 1.2 * len(IDS) * 4000 * 4
    write_features(tmp_path, "clap_ms_text", {IDS[0]: batch[0]})
    assert path.stat().st_size < 1.2 * 4000 * 4 + 2000, "a view was saved with what it is a view of"


def test_the_order_of_a_file_is_kept(tmp_path):
    torch.save({"b": torch.zeros(3), "a": torch.ones(3)}, tmp_path / "passt_logits.pth")
    assert list(read_features(tmp_path, "passt_logits")) == ["b", "a"]


WRONG = {
    "a list": ("passt_logits", [torch.zeros(3)], "dictionary of id to passt_logits"),
    "ids that are numbers": ("passt_logits", {7: torch.zeros(3)}, "dictionary of id to passt_logits"),
    "a number for a vector": ("clap_ms_audio", {"x1": torch.tensor(0.5)}, r"'x1' has shape \(\); want \(width\)"),
    "a batch": ("passt_logits", {"x1": torch.zeros(1, 3)}, r"'x1' has shape \(1, 3\); want \(width\)"),
    "nothing": ("passt_logits", {"x1": torch.zeros(0)}, r"'x1' has shape \(0,\)"),
    "NaN": ("passt_logits", {"x0": torch.zeros(2), "x1": torch.tensor([0.0, torch.nan])}, "'x1' holds NaN or infinity"),
    "infinity": ("vggish_features", {"x1": torch.full((8, 2), torch.inf)}, "'x1' holds NaN or infinity"),
    "whole numbers": ("passt_logits", {"x1": torch.zeros(3, dtype=torch.int64)}, "'x1' is no tensor of floating numbers"),
    "text": ("passt_logits", {"x1": "abc"}, "'x1' is no tensor of floating numbers but str"),
    "two widths": ("passt_logits", {"x0": torch.zeros(3), "x1": torch.zeros(4)}, "width of 'x1' is 4 and that of 'x0' is 3"),
    "other vectors": ("synchformer_audio", {"x1": torch.zeros(24, 8, 768)}, r"want \(segments, 6, 768\)"),
    "no parts": ("pann_features", {"x1": torch.zeros(2048)}, "'x1' is no dictionary of 2048, logits"),
    "a missing part": ("pann_features", {"x1": {"2048": torch.zeros(4)}}, "'x1' is no dictionary of 2048, logits"),
    "a misshapen part": ("pann_features", {"x1": {"2048": torch.zeros(4), "logits": torch.zeros(1, 2)}}, r"'x1' \(logits\) has shape"),
}


@pytest.mark.parametrize(("stem", "content", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_cache_is_refused_by_file_and_clip(tmp_path, stem, content, words):
    torch.save(content, tmp_path / f"{stem}.pth")
    with pytest.raises(UserError, match=rf"{stem}\.pth.*{words}"):
        read_features(tmp_path, stem)
    with pytest.raises(UserError, match=words):
        write_features(tmp_path / "new", stem, content)
    assert not (tmp_path / "new").exists()


def test_a_damaged_a_missing_and_an_unknown_file_are_refused(tmp_path):
    path = write_features(tmp_path, "passt_logits", {"a": torch.zeros(3000)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"passt_logits\.pth is no readable file of features"):
        read_features(tmp_path, "passt_logits")
    with pytest.raises(UserError, match=r"no clap_ms_text\.pth in .*; make these features first"):
        read_features(tmp_path, "clap_ms_text")
    with pytest.raises(UserError, match="did you mean 'passt_logits'"):
        read_features(tmp_path, "passt_logit")


def test_files_whose_clips_have_lengths_of_their_own(tmp_path):
    write_features(tmp_path, "vggish_features", {"a": torch.zeros(8, 3), "b": torch.zeros(10, 3), "c": torch.zeros(0, 3)})
    assert [len(value) for value in read_features(tmp_path, "vggish_features").values()] == [8, 10, 0]
    assert set(CACHE_FILES) >= {"synchformer_video", "pann_features"}
