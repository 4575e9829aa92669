"""Which samples are made together, how often a caption is encoded, and what of a folder of bad files is loaded."""

import torch

from mmaudio.generate.conditioning import MOST_CAPTIONS, MOST_WORKERS, CaptionFeatures, Ready, batches_of, from_first_readable, read_inputs
from mmaudio.generate.jobs import GenerationJob
from tests.media.made_videos import make_video


def ready(name, duration_s=8.0, *, with_video=True):
    feature = torch.zeros(1, 1) if with_video else None
    return Ready(GenerationJob(name, ""), duration_s, feature, feature)


def names(batches):
    return ["".join(item.job.name for item in batch) for batch in batches]


def test_samples_of_one_shape_are_made_together():
    items = [ready("a"), ready("b", 5.0), ready("c"), ready("d", with_video=False), ready("e"), ready("f", 5.0)]
    assert names(batches_of(items, 2)) == ["ac", "bf", "d", "e"]
    assert names(batches_of(items, 1)) == list("abcdef")
    assert names(batches_of([], 4)) == []


def test_no_more_than_four_batches_wait():
    drawn = []

    def items():
        for index in range(40):
            drawn.append(index)
            yield ready(f"{index} ", 1.0 + index)

    made = batches_of(items(), 3)
    next(made)
    assert len(drawn) == 12
    assert sum(len(batch) for batch in made) == 39


def test_a_caption_is_encoded_once():
    encoded = []

    def encode(captions):
        encoded.extend(captions)
        return torch.tensor([float(len(caption)) for caption in captions])[:, None, None]

    texts = CaptionFeatures(encode)
    assert texts(["aa", "b", "aa"])[:, 0, 0].tolist() == [2, 1, 2]
    assert texts(["b", "ccc"])[:, 0, 0].tolist() == [1, 3]
    assert encoded == ["aa", "b", "ccc"]
    many = [str(number) for number in range(MOST_CAPTIONS)]
    assert len(texts([*many, *many])) == 2 * MOST_CAPTIONS
    assert texts(["aa"])[0, 0, 0] == 2, "what had to make room is encoded again"


def test_nothing_is_loaded_for_files_that_cannot_be_read(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"only words " * 50)
    short = make_video(tmp_path / "short.mp4", 0.4)
    bad = [GenerationJob("a", "", tmp_path / "a.mp4"), GenerationJob("b", "", tmp_path / "b.mp4"), GenerationJob("short", "", short)]
    failed, rest = from_first_readable(read_inputs(bad, 8.0, 2))
    assert rest is None and list(failed) == ["a", "b", "short"]
    assert "too short: 0." in failed["short"].reason
    failed, rest = from_first_readable(read_inputs([bad[0], GenerationJob("rain", "rain"), bad[1]], 8.0))
    assert list(failed) == ["a"] and [(job.name, media is None) for job, media in rest] == [("rain", True), ("b", False)]
    assert from_first_readable(read_inputs([], 8.0)) == ({}, None)


def test_reading_ahead_is_bounded(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("mmaudio.generate.conditioning.read_still", lambda path: seen.append(path))
    inputs = read_inputs([GenerationJob(str(index), "", image=tmp_path) for index in range(100)], 8.0, num_workers=64)
    next(inputs)
    assert len(seen) <= MOST_WORKERS + 1
