"""`metrics.engine=av_bench`: how the package is called and how its numbers come back; a stand-in takes its place."""

import sys
import textwrap

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.errors import RejectsError, UserError
from mmaudio.files.file_names import file_of
from mmaudio.files.ownership import archive_mark
from mmaudio.metrics import av_bench
from mmaudio.metrics.av_bench import CACHE, check_av_bench, run_av_bench
from mmaudio.metrics.feature_cache import read_features, write_features
from mmaudio.metrics.registry import CACHED, METRICS
from tests.shapes_of_ids import all_ids

RATE_HZ = 8000
HOW = {"batch_size": 4, "num_workers": 2}
STAND_IN = {
    "__init__": "calls = []\ntold = {}\n",
    "extract": """
        import torch
        import av_bench

        def extract(audio_path, output_path, *, audio_length=8.0, batch_size=128, num_workers=32, device,
                    skip_video_related=False, skip_clap=False):
            files = sorted([*audio_path.glob("*.wav"), *audio_path.glob("*.flac")], key=lambda path: path.stem)
            assert all(path.read_bytes() for path in files)
            av_bench.calls.append(dict(names=[path.name for path in files], length=audio_length, device=device,
                                       skips=(skip_video_related, skip_clap), work=(batch_size, num_workers)))
            torch.save({path.stem: torch.ones(768) for path in files}, output_path / "passt_features_embed.pth")
        """,
    "evaluate": """
        import av_bench

        def evaluate(gt_audio_cache, pred_audio_cache, *, is_paired=True, num_samples=1, skip_video_related=False, skip_clap=False):
            av_bench.calls.append(dict(gt=gt_audio_cache, pred=pred_audio_cache, paired=is_paired, skips=(skip_video_related, skip_clap)))
            return av_bench.told
        """,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name on the path."""
    folder = tmp_path / "site" / "av_bench"
    folder.mkdir(parents=True)
    for name, text in STAND_IN.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(folder.parent))
    import av_bench as found

    yield found
    for name in [name for name in sys.modules if name.split(".")[0] == "av_bench"]:
        del sys.modules[name]


@pytest.fixture
def folders(tmp_path):
    """Sounds, two of which cannot be judged, and a reference's cache."""
    sounds, reference = tmp_path / "sounds", tmp_path / "reference"
    sounds.mkdir()
    for clip_id, seconds in (("a.b", 1.0), ("c", 1.5), ("short", 0.5)):
        soundfile.write(sounds / f"{clip_id}.flac", np.zeros(round(seconds * RATE_HZ)), RATE_HZ)
    (sounds / "bad.wav").write_text("this is no sound, whatever its name says")
    write_features(reference, "passt_features_embed", {"a.b": torch.ones(768), "other": torch.ones(768)})
    return sounds, reference


def rows(*names):
    return [METRICS[name] for name in names]


def test_sounds_that_it_would_replace_are_left_out(package, folders):
    sounds, reference = folders
    package.told.update({"FD-PASST": 12.5, "KL-PASST-softmax": np.float32(1.5), "FD-VGG": 3.0})
    measured = run_av_bench(rows("FD-PASST", "KL-PASST-softmax"), reference, sounds, 1.0, "cpu", **HOW)
    extracted, evaluated = package.calls
    assert extracted == {"names": ["a.b.flac", "c.flac"], "length": 1.0, "device": "cpu", "skips": (True, True), "work": (4, 2)}
    assert evaluated == {"gt": reference, "pred": sounds / CACHE, "paired": True, "skips": (True, True)}
    assert measured.values == {
        "FD-PASST": {"value": 12.5, "interval": None, "unit": "", "better": "lower", "num": 2},
        "KL-PASST-softmax": {"value": 1.5, "interval": None, "unit": "nat", "better": "lower", "num": 1},
    }
    assert {name: measured.counts[name] for name in ("reference", "predicted", "paired")} == {"reference": 2, "predicted": 2, "paired": 1}
    assert (measured.counts["missing_ids"], measured.counts["unexpected_ids"]) == (["other"], ["c"])
    left_out = measured.counts["without_features"]["predicted"]
    assert left_out["short"] == "too short: 0.50 s of sound, want 1 s" and "not readable as audio" in left_out["bad"]
    assert sorted(path.name for path in sounds.iterdir()) == ["a.b.flac", CACHE, "bad.wav", "c.flac", "short.flac"]


def test_ids_that_lead_to_folders_are_judged_under_flat_names(package, tmp_path):
    """The package lists one folder, and knows clips by their files; in its caches they have their ids."""
    ids = [name_id for name_id in all_ids(tmp_path) if name_id != "clip.flac"]
    sounds, reference = tmp_path / "sounds", tmp_path / "reference"
    for name_id in (*ids, "deep/other", "other"):
        path = file_of(sounds, name_id, ".flac")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(RATE_HZ), RATE_HZ, format="FLAC")
    write_features(reference, "passt_features_embed", {name_id: torch.ones(768) for name_id in ids})
    counts = run_av_bench(rows("FD-PASST"), reference, sounds, 1.0, "cpu", **HOW, ids=ids).counts
    assert (counts["paired"], counts["missing_ids"], counts["unexpected_ids"]) == (len(ids), [], ["other"])
    names = package.calls[0]["names"]
    assert len(names) == len(ids) + 1 and not any("/" in name for name in names)
    assert set(read_features(sounds / CACHE, "passt_features_embed")) == {*ids, "other"}
    assert not list(sounds.glob(".mmaudio-*.tmp")) and sorted(path.name for path in tmp_path.iterdir()) == ["reference", "site", "sounds"]


def test_only_what_is_wanted_is_extracted(package, folders):
    sounds, reference = folders
    run_av_bench(rows("DeSync"), reference, sounds, 1.0, "cuda", **HOW)
    run_av_bench(rows("LAION-CLAP-Score", "onset_f1"), reference, sounds, 1.0, "cuda", **HOW)
    assert [call["skips"] for call in package.calls] == [(False, True)] * 2 + [(True, False)] * 2


def test_what_is_no_number_is_null_with_a_reason(package, folders):
    sounds, reference = folders
    package.told.update({"FD-PANN": -1, "ISC-PASST-mean": float("nan"), "IB-Score": -1.0})
    values = run_av_bench([METRICS[name] for name in CACHED], reference, sounds, 1.0, "cuda", **HOW).values
    assert list(values) == list(CACHED) and values["IB-Score"]["value"] == -1.0  # a cosine may be that
    assert {name for name, entry in values.items() if entry["value"] is None} == set(CACHED) - {"IB-Score"}
    assert all(("reason" in entry) == (entry["value"] is None) for entry in values.values())
    assert "no real matrix root" in values["FD-PANN"]["reason"] and "at least 10 clips" in values["ISC-PASST-mean"]["reason"]
    assert "does not tell it" in values["DeSync"]["reason"]


def test_nothing_to_judge(package, folders):
    sounds, reference = folders
    with pytest.raises(RejectsError, match=r"none of the 4 sounds in .* can be judged; the first: 'a\.b': too short"):
        run_av_bench(rows("FD-PASST"), reference, sounds, 9.0, "cuda", **HOW)
    with pytest.raises(UserError, match=r"none was named; give metrics\.reference_cache=DIR"):
        run_av_bench(rows("FD-PASST"), None, sounds, 1.0, "cuda", **HOW)
    assert package.calls == []


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(av_bench, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed and is on no package registry; install it from its repository, as README\.md"):
        check_av_bench()


def test_its_features_replace_only_those_it_made_here(package, folders):
    sounds, reference = folders
    for _ in range(2):
        run_av_bench(rows("FD-PASST"), reference, sounds, 1.0, "cpu", **HOW)
    path = sounds / CACHE / "passt_features_embed.pth"
    assert archive_mark(path)["of"] == CACHE and not list(sounds.glob(".*"))
    torch.save({"a.b": torch.zeros(768)}, path)
    mine = path.read_bytes()
    with pytest.raises(UserError, match=r"passt_features_embed\.pth was not made by this program .* move it aside: mv \S+/av_bench-cache "):
        run_av_bench(rows("FD-PASST"), reference, sounds, 1.0, "cpu", **HOW)
    assert path.read_bytes() == mine and len(package.calls) == 4


def test_of_a_set_its_sounds_alone_are_judged(package, folders):
    sounds, reference = folders
    run_av_bench(rows("FD-PASST"), reference, sounds, 1.0, "cpu", **HOW, ids=["c", "short"], only_samples=True)
    assert package.calls[0]["names"] == ["c.flac"]
