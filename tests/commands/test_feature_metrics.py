"""`mmaudio evaluate` with extractors, end to end on weights of the published layouts: sounds and captions to metrics."""

import json

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.files.tensor_files import shapes_of
from mmaudio.metrics.extractors import passt
from mmaudio.metrics.feature_cache import write_features
from tests.encoders.sharp import manifest
from tests.metrics.extractor_files import sound, write_clap, write_state, write_tokenizer

METRICS = ("onset_f1", "FD-PASST", "KL-PASST-softmax", "LAION-CLAP-Score", "DeSync", "FD-VGG")


def write_sounds(folder, names, kind):
    folder.mkdir()
    for name in names:
        soundfile.write(folder / f"{name}.flac", sound(f"{kind} {name}", 96_000).numpy(), 16_000)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    sync = manifest("synchformer_audio") | manifest("synchformer_compare") | manifest("synchformer_visual")
    return {
        "passt": write_state(folder / "passt.pt", shapes_of(passt.build_passt())),
        "clap_laion": write_clap(folder / "clap.pt"),
        "roberta_tokenizer": write_tokenizer(folder / "tokens"),
        "synchformer": write_state(folder / "sync.pth", sync),
    }


@pytest.mark.slow
def test_judges_through_the_command(run_command, tmp_path, places):
    names = ["a.b", "00008004"]
    real, made = write_sounds(tmp_path / "real", names, "real"), write_sounds(tmp_path / "made", names, "made")
    (tmp_path / "captions.tsv").write_text("id\tcaption\na.b\tdog\n00008004\ta dog dog\n")
    frames = {
        name: torch.from_numpy(np.random.default_rng(place).standard_normal((17, 8, 768))).float() for place, name in enumerate(names)
    }
    write_features(tmp_path / "gt", "synchformer_video", frames)  # a network that takes minutes on a CPU
    words = ("--generated", made, "--reference", real, "--captions", tmp_path / "captions.tsv", "--reference_cache", tmp_path / "gt")
    words += ("--metrics", ",".join(METRICS), "--output", tmp_path / "scores" / "scores.json", "--device", "cpu")
    words += tuple(word for name, place in places.items() for word in ("--place", f"{name}={place}"))
    ended = run_command("evaluate", *words)
    assert ended.code == 3, ended.err  # for FD-VGG, which was asked for by its name
    scores = json.loads((tmp_path / "scores/scores.json").read_text())
    told = scores["metrics"]
    assert [name for name, entry in told.items() if entry["value"] is None] == ["FD-VGG"]
    assert told["KL-PASST-softmax"]["value"] > 0 and -1 < told["LAION-CLAP-Score"]["value"] < 1 and 0 <= told["DeSync"]["value"] <= 2
    assert all({"KL-PASST-softmax", "LAION-CLAP-Score", "DeSync", "onset_f1"} <= row["metrics"].keys() for row in scores["clips"])
    extractors = scores["protocol"]["judges"]
    assert extractors["predicted/passt_logits"]["weights"]["passt"].startswith("sha256:")
    assert extractors["reference/synchformer_video"].startswith("sha256:")
    again = run_command("evaluate", *words)
    assert again.code == 3
    assert json.loads((tmp_path / "scores/scores.json").read_text())["metrics"] == told  # from the caches
