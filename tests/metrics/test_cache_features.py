"""Cache files by extractors: what is made, what is made again, what fails, and what a kill leaves."""

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.errors import UserError
from mmaudio.files.locks import hold_target
from mmaudio.metrics.extractors import available as table
from mmaudio.metrics.extractors import cache_update as parts
from mmaudio.metrics.extractors.cache_features import extract_features
from mmaudio.metrics.extractors.cache_update import read_cache_record
from mmaudio.metrics.feature_cache import foreign_features, read_features, remove_features, write_features
from tests.conftest import ROOT
from tests.metrics.toy_extractor import STEMS, ToyExtractor, toys, write_sounds
from tests.shapes_of_ids import all_ids

CPU = torch.device("cpu")
IDS = ["a.b", "zxpo56cpUBU_000007-0", "Y---g-f_I2yQ_000001_0", "000000014_zxpo56cpUBU_000007-0", "ordinary"]


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The toy in the table, and weights for it."""
    monkeypatch.setattr(table, "EXTRACTORS", toys())
    monkeypatch.setattr(ToyExtractor, "asked", [])
    (tmp_path / "weights.pt").write_bytes(b"weights")
    return tmp_path


def extract(folder, items, **more):
    how = {"duration_s": 1.0, "device": CPU, "places": {"passt": folder / "weights.pt"}} | more
    return extract_features(STEMS[:1], items, folder / "cache", **how)


def test_all_features_are_made_once(toy):
    items = write_sounds(toy / "sounds", IDS)
    assert extract(toy, items) == {}
    first, second = (read_features(toy / "cache", stem) for stem in STEMS)
    assert set(first) == set(second) == set(IDS)
    assert all(torch.equal(2 * first[name], second[name]) and first[name].untyped_storage().nbytes() == 16 for name in IDS)
    assert extract(toy, items) == {} and ToyExtractor.asked == [5]
    assert sorted(path.name for path in (toy / "cache").iterdir()) == ["cache.json", f"{STEMS[0]}.pth", f"{STEMS[1]}.pth"]


def test_features_of_any_id_are_kept_by_it(toy):
    ids = all_ids(toy)
    (sound,) = write_sounds(toy / "sounds", ["x"]).values()
    assert extract(toy, dict.fromkeys(ids, sound)) == {}
    assert set(read_features(toy / "cache", STEMS[0])) == set(ids) == set(read_cache_record(toy / "cache")[STEMS[0]].stamps)
    assert sorted(path.name for path in toy.iterdir()) == [".weights.pt.checksum.json", "cache", "sounds", "weights.pt"]
    assert len(list((toy / "cache").rglob("*"))) == 3


def test_what_changed_is_made_anew_and_what_is_new_is_added(toy):
    items = write_sounds(toy / "sounds", IDS)
    extract(toy, items)
    before = read_features(toy / "cache", STEMS[0])
    soundfile.write(items["a.b"], np.linspace(-0.5, 0.5, 8000), 8000)
    items |= write_sounds(toy / "more", ["new"])
    del items["ordinary"]
    assert extract(toy, items) == {} and ToyExtractor.asked == [5, 2]
    after = read_features(toy / "cache", STEMS[0])
    assert set(after) == {*IDS, "new"} and not torch.equal(after["a.b"], before["a.b"])
    assert all(torch.equal(after[name], before[name]) for name in IDS[1:])


@pytest.mark.parametrize("change", ["weights", "duration", "version", "torn"])
def test_features_made_otherwise_are_made_anew(toy, monkeypatch, caplog, change):
    items = write_sounds(toy / "sounds", IDS)
    extract(toy, items)
    if change == "weights":
        (toy / "weights.pt").write_bytes(b"other weights")
    elif change == "version":
        monkeypatch.setattr(table, "EXTRACTORS", {"toy": replace(table.EXTRACTORS["toy"], version=2)})
    elif change == "torn":
        (toy / "cache" / f"{STEMS[0]}.pth").unlink()
    caplog.set_level(logging.INFO)
    assert extract(toy, items, duration_s=0.5 if change == "duration" else 1.0) == {} and ToyExtractor.asked == [5, 5]
    assert change == "torn" or "were made otherwise" in caplog.text


def test_features_that_nobody_knows_of_are_kept_aside(toy, caplog):
    caplog.set_level(logging.INFO)
    write_features(toy / "cache", STEMS[0], {"a.b": torch.ones(3)})
    extract(toy, write_sounds(toy / "sounds", IDS))
    assert torch.load(toy / "cache" / f"{STEMS[0]}.pth.aside", weights_only=True).keys() == {"a.b"}
    assert "is now" in caplog.text and len(read_features(toy / "cache", STEMS[0])) == 5


def test_bad_files_are_counted_with_their_reasons_and_replaced_by_none(toy):
    items = write_sounds(toy / "sounds", IDS)
    bad = {
        "gone": toy / "gone.flac",
        "text": toy / "text.wav",
        "folder": toy / "folder.flac",
        "pipe": toy / "pipe.flac",
        "nan": toy / "nan.wav",
    }
    bad["text"].write_text("no sound at all, but more than a header takes")
    bad["folder"].mkdir()
    os.mkfifo(bad["pipe"])
    soundfile.write(bad["nan"], np.full(8000, np.nan), 8000, subtype="FLOAT")
    silent = {"silent": toy / "silent.wav"}
    soundfile.write(silent["silent"], np.zeros(8000), 8000)
    failures = extract(toy, bad | items | silent)
    assert set(failures) == set(bad) and all(failures.values()) and list(failures) == list(bad)
    assert set(read_features(toy / "cache", STEMS[0])) == {*items, "silent"}


@pytest.mark.parametrize("kind", ["bad", "short"])
def test_folders_without_a_usable_file_load_no_network(toy, monkeypatch, kind):
    monkeypatch.setattr(table, "EXTRACTORS", toys(min_duration_s=0.64))
    items = write_sounds(toy / "sounds", [str(number) for number in range(200)], seconds=0.1)
    for path in items.values() if kind == "bad" else ():
        path.write_bytes(b"fLaC" + bytes(100))
    failures = extract(toy, items)
    assert list(failures) == list(items) and ToyExtractor.asked == []  # not even loaded
    assert kind == "bad" or failures["0"] == "too short: 0.10 s of sound, want 1 s"


def test_features_that_are_not_finite_are_failures(toy, monkeypatch):
    monkeypatch.setattr(ToyExtractor, "encode", lambda self, given: {stem: torch.full((len(given), 4), torch.nan) for stem in STEMS})
    failures = extract(toy, write_sounds(toy / "sounds", ["a"]))
    assert failures == {"a": "toy gives features that are not finite numbers"}


def test_captions(toy, monkeypatch):
    monkeypatch.setattr(table, "EXTRACTORS", toys(kind="text"))
    captions = {"1": "a dog", "2": "", "3": "🐕 barks"}
    how = {"duration_s": 8.0, "device": CPU, "places": {"passt": toy / "weights.pt"}}
    assert extract_features(["clap_laion_text"], captions, toy / "cache", **how) == {}
    captions["1"] = "a cat meows"
    assert extract_features(["clap_laion_text"], captions, toy / "cache", **how) == {} and ToyExtractor.asked == [3, 1]
    assert [row[0].item() for row in read_features(toy / "cache", "clap_laion_text").values()] == [11, 0, 7]
    with pytest.raises(ValueError, match="one call for each"):
        extract_features(["clap_laion_text"], {"1": toy / "a.flac"}, toy / "cache", **how)


def test_features_that_no_judge_gives(toy):
    with pytest.raises(UserError, match="no judge here gives imagebind_audio"):
        extract_features(["imagebind_audio", STEMS[0]], {}, toy / "cache", device=CPU)


def test_a_folder_of_another_program(toy):
    (toy / "cache").mkdir()
    (toy / "cache" / "cache.json").write_text("[]")
    with pytest.raises(UserError, match="no record of features"):
        extract(toy, {})


def test_an_interrupted_run_goes_on(toy, monkeypatch):
    """Parts of a run that ended in the middle are taken over, but for a file that changed since."""
    items = write_sounds(toy / "sounds", IDS)
    monkeypatch.setattr(parts, "MOST_CLIPS", 2)
    encode, seen = ToyExtractor.encode, []

    def interrupted(self, given):
        seen.append(len(given))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return encode(self, given)

    monkeypatch.setattr(ToyExtractor, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(toy, items)
    assert read_cache_record(toy / "cache")[STEMS[0]].stamps == {}
    soundfile.write(items[IDS[0]], np.linspace(-0.5, 0.5, 8000), 8000)
    assert extract(toy, items) == {} and len(seen) == 4 + 4  # the changed one, the lost one, and two that were not reached
    got = read_features(toy / "cache", STEMS[0])
    monkeypatch.setattr(ToyExtractor, "encode", encode)
    extract_features(STEMS, items, toy / "whole", duration_s=1.0, device=CPU, places={"passt": toy / "weights.pt"})
    want = read_features(toy / "whole", STEMS[0])
    assert set(got) == set(want) and all(torch.equal(got[name], want[name]) for name in want)


def run_toy(folder, kills_after=-1, **environment):
    words = [sys.executable, "-m", "tests.metrics.toy_extractor", str(folder), str(kills_after)]
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_process_and_two_that_go_on(toy):
    items = write_sounds(toy / "sounds", [f"{number:02d}" for number in range(11)])
    (toy / "sounds" / "bad.flac").write_bytes(b"no sound, but long enough")
    killed = run_toy(toy, kills_after=5)
    killed.communicate()
    assert killed.returncode == -9
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29561"}
    both = [run_toy(toy, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in range(2)]
    said = [process.communicate()[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    asked = [int(line.split(" asked for ")[1].split(",")[0]) for line in said]
    assert sum(asked) == 11 - 4 and all(count >= 3 for count in asked)  # two parts of two clips were there
    assert all(line.endswith("failed ['bad']") for line in said)
    assert set(read_features(toy / "cache", STEMS[0])) == set(items) and not (toy / "cache" / ".parts").exists()


def test_a_record_and_parts_of_others_are_not_touched(toy):
    items = write_sounds(toy / "sounds", IDS)
    folder = toy / "cache" / ".parts" / "toy"
    folder.mkdir(parents=True)
    torch.save({"made_of": {}, "stamps": {}, "features": {}}, folder / "0000-000000.pth")
    mine = (folder / "0000-000000.pth").read_bytes()
    assert foreign_features(toy / "cache", STEMS) == [folder / "0000-000000.pth"]
    assert extract(toy, items) == {}
    assert (folder / "0000-000000.pth.aside").read_bytes() == mine
    assert foreign_features(toy / "cache", STEMS) == []
    record = toy / "cache" / "cache.json"
    content = json.loads(record.read_text())
    assert content.pop("mark")["of"] == "cache"
    record.write_text(json.dumps(content))  # as 0.1.0 wrote it
    assert read_cache_record(toy / "cache")[STEMS[0]].stamps.keys() == set(IDS), "it can be read"
    with pytest.raises(UserError, match=r"cache\.json was not made by this program .* move it aside: mv"):
        extract(toy, items)
    (toy / "cache").rename(toy / "moved")
    assert foreign_features(toy / "moved", STEMS) == [toy / "moved" / name for name in ("cache.json", *(f"{stem}.pth" for stem in STEMS))]


def test_what_is_ours_in_a_cache_is_removed_alone(toy):
    extract(toy, write_sounds(toy / "sounds", IDS))
    torch.save({}, toy / "cache" / "vggish_features.pth")
    remove_features(toy / "cache")
    assert [path.name for path in (toy / "cache").iterdir()] == ["vggish_features.pth"]
    (toy / "cache" / "vggish_features.pth").unlink()
    (toy / "link").symlink_to(toy / "cache")
    how = {"duration_s": 1.0, "device": CPU, "places": {"passt": toy / "weights.pt"}}
    extract_features(STEMS, write_sounds(toy / "sounds", IDS), toy / "link", **how)
    assert foreign_features(toy / "link", STEMS) == []
    remove_features(toy / "link")
    assert list((toy / "cache").iterdir()) == [] and (toy / "link").is_symlink()


def test_another_extraction_into_the_folder_is_waited_for(toy, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mmaudio.files.locks.PATIENCE_S", 0.0)
    held = hold_target(toy / "cache" / "cache.json", "it")
    held.__enter__()
    released = threading.Timer(0.3, lambda: held.__exit__(None, None, None))
    released.start()
    assert extract(toy, write_sounds(toy / "sounds", IDS)) == {}
    released.join()
    assert f"waiting for another job that is writing features in {toy / 'cache'}: process {os.getpid()}" in caplog.text
