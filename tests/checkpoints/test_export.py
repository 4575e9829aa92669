"""Exported weights: which file of a run, what is written of it, and what a bad file says."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mmaudio
from mmaudio.base.errors import UserError
from mmaudio.base.specs import DTYPES, torch_dtype
from mmaudio.checkpoints.export import convert, find_weights, weights_metadata, write_export
from mmaudio.checkpoints.load import load_checkpoint, load_weights, read_record
from mmaudio.checkpoints.run_files import WeightsRecord, record_beside
from mmaudio.files.checksums import DamagedFileError, content_id

RECORD = WeightsRecord("nano_44k", "44k", 2.0, "lite", 7, "1e5", final_cond="extended", dropped=("clip", "text"), freeze=("a.*",))
WEIGHTS = {
    "latent_mean": torch.linspace(-1, 1, 40)[None, None],
    "latent_std": torch.full((1, 1, 40), 0.1),
    "a.weight": torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)),
    "a.bias": torch.zeros(0),
    "count": torch.tensor(3),
}


def exported(path: Path, dtype: str = "fp32", record: WeightsRecord = RECORD) -> Path:
    write_export(path, convert(WEIGHTS, torch_dtype(dtype)), weights_metadata(record, WEIGHTS, dtype))
    return path


def told_of(path: Path) -> dict[str, object]:
    """What a file says of itself, read as a stranger would."""
    if path.suffix == ".pth":
        return json.loads(record_beside(path).read_text())
    with safe_open(path, framework="pt") as file:
        strings = file.metadata()
    texts = ("variant", "mode", "backend", "exp_id", "final_cond", "dtype", "format", "checksum")
    return {name: text if name in texts else json.loads(text) for name, text in strings.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_a_file_says(tmp_path, suffix):
    path = exported(tmp_path / f"some{suffix}")
    told = told_of(path)
    assert told.pop("versions").keys() == {"mmaudio", "torch", "safetensors"}
    assert told.pop("format", "pt") == "pt"
    assert told.pop("checksum", "").startswith("crc32:") or told.pop("checksums") == [content_id(path)]
    assert told.pop("latent_mean") == WEIGHTS["latent_mean"].flatten().tolist()
    assert told.pop("latent_std") == WEIGHTS["latent_std"].flatten().tolist()
    assert told == {
        "variant": "nano_44k",
        "mode": "44k",
        "duration_s": 2.0,
        "backend": "lite",
        "step": 7,
        "exp_id": "1e5",
        "format_version": 1,
        "final_cond": "extended",
        "dropped": ["clip", "text"],
        "freeze": ["a.*"],
        "sample_rate_hz": 44100,
        "latent_channels": 40,
        "dtype": "fp32",
    }
    assert mmaudio.__version__ in str(told_of(path)["versions"])
    assert read_record(path) == RECORD


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_come_back(tmp_path, suffix, dtype):
    path = exported(tmp_path / f"some{suffix}", dtype)
    back = load_weights(path)
    assert back.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        kept = name in ("latent_mean", "latent_std", "count")
        assert torch.equal(back[name], tensor if kept else tensor.to(torch_dtype(dtype))), name
        assert back[name].dtype == (tensor.dtype if kept else torch_dtype(dtype)), name
    if suffix != ".safetensors":
        plain = torch.load(path, weights_only=True)
        assert type(plain) is dict
        assert list(plain) == list(WEIGHTS)


def test_from_one_format_to_the_other_and_back(tmp_path):
    first = exported(tmp_path / "first.safetensors")
    write_export(tmp_path / "second.pth", convert(load_weights(first), torch.float32), weights_metadata(RECORD, WEIGHTS, "fp32"))
    write_export(tmp_path / "third.safetensors", convert(load_weights(tmp_path / "second.pth"), torch.float32), {})
    assert (tmp_path / "second.pth").stat().st_size < 10_000, "every tensor is saved by itself, not with the file it was read from"
    third = load_weights(tmp_path / "third.safetensors")
    assert all(torch.equal(third[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("exp_id", ["null", "1e5", '"', "é🎈\n", "[]"])
def test_names_are_text(tmp_path, exp_id):
    assert read_record(exported(tmp_path / "some.safetensors", record=replace(RECORD, exp_id=exp_id))).exp_id == exp_id


def test_numbers_that_are_none_are_not_exported(tmp_path):
    torch.save(WEIGHTS | {"a.weight": torch.tensor([float("nan")])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds numbers that are not finite, the first in a\.weight"):
        load_weights(tmp_path / "w.pth")
    large = WEIGHTS | {"a.weight": torch.tensor([1e5])}
    assert convert(large, torch.bfloat16)["a.weight"].item() == pytest.approx(1e5, rel=1e-2)
    with pytest.raises(UserError, match=r"a\.weight .* too large for torch\.float16; export in fp32 or bf16"):
        convert(large, torch.float16)


@contextmanager
def small_files(num_bytes: int) -> Iterator[None]:
    """A disk that takes no larger file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_leaves_what_was_there(tmp_path, suffix):
    path = exported(tmp_path / f"some{suffix}")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with small_files(1000), pytest.raises(UserError, match="cannot be written"):
        exported(path, "bf16")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


# ---- bad files


def test_a_file_torn_anywhere_is_one_sentence(tmp_path):
    path = exported(tmp_path / "some.safetensors")
    content = path.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(content), 301)]:
        path.write_bytes(content[:length])
        for read in (load_weights, read_record):
            with pytest.raises(DamagedFileError, match=r"some\.safetensors is no readable weights file: .*; copy or download it anew"):
                read(path)


@pytest.mark.parametrize("content", [b"hello", bytes(5000), b"PK\x03\x04" * 100, b"\x02" + bytes(7) + b"{}"])
def test_a_file_of_something_else_is_one_sentence(tmp_path, content):
    path = tmp_path / "some.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.safetensors (is no readable weights file|holds no weights)") as caught:
        load_weights(path)
    assert len(str(caught.value).splitlines()) == 1


def test_metadata_of_another_program_is_no_record(tmp_path):
    path = tmp_path / "some.safetensors"
    save_file(WEIGHTS, path, {"format": "pt", "step": "about ten"})
    assert read_record(path) is None
    record_beside(path).write_text(
        json.dumps({"variant": "x", "mode": "16k", "duration_s": 1.0, "backend": "lite", "step": 1, "exp_id": "y"})
    )
    with pytest.raises(UserError, match=r"some\.safetensors\.json is no readable record"):
        read_record(path)
    for version, sentence in (("99", "has format version 99; this mmaudio reads 1"), ("one", "is no readable weights file")):
        save_file(WEIGHTS, path, {"format_version": version})
        with pytest.raises(UserError, match=sentence):
            read_record(path)
    save_file(WEIGHTS, path, {"format_version": "1"})
    with pytest.raises(UserError, match="is no readable record"):
        read_record(path)


def test_weights_alone_are_no_checkpoint(tmp_path):
    path = exported(tmp_path / "some.safetensors")
    with pytest.raises(UserError, match=f"is no training checkpoint: it has no it, .* use weights={path}"):
        load_checkpoint(path)


def test_a_record_from_before_a_field_was_added(tmp_path):
    path = exported(tmp_path / "some.pth")
    old = json.loads(record_beside(path).read_text())
    record_beside(path).write_text(json.dumps({name: old[name] for name in list(old)[:7]}))
    assert read_record(path) == WeightsRecord("nano_44k", "44k", 2.0, "lite", 7, "1e5")


# ---- which file of a run


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "birds"


def put(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_averaged_weights_come_first(folder):
    put(folder, "birds_last.pth", "birds_shadow.pth", "birds_ckpt_last.pth")
    assert find_weights(folder, None).name == "birds_last.pth"
    put(folder, "birds_ema_final.pth", "other_last.pth")
    assert find_weights(folder, None).name == "birds_ema_final.pth"
    assert find_weights(folder, "last").name == "birds_last.pth"
    assert find_weights(folder, "birds_shadow.pth") == folder / "birds_shadow.pth"
    assert find_weights(folder, str(folder / "birds_ckpt_last.pth")) == folder / "birds_ckpt_last.pth"


def test_a_folder_may_have_another_name(folder):
    put(folder, "last_last.pth", "last_ckpt_last.pth")
    assert find_weights(folder, None).name == "last_last.pth"
    put(folder, "more_ema_final.pth")
    with pytest.raises(UserError, match=r"holds weights of several runs \(last, more\); choose a file of it with --weights FILE"):
        find_weights(folder, "ema")


def test_what_is_not_there_is_said(folder):
    put(folder)
    with pytest.raises(UserError, match="birds holds no weights of a run yet; training writes"):
        find_weights(folder, None)
    put(folder, "birds_ckpt_last.pth")
    with pytest.raises(UserError, match=r"its checkpoint has some: --weights birds_ckpt_last\.pth"):
        find_weights(folder, "last")
    put(folder, "birds_last.pth")
    with pytest.raises(UserError, match=r"holds no birds_ema_final\.pth \(training writes it when it ends, .* with --weights last"):
        find_weights(folder, "ema")
    with pytest.raises(UserError, match=r"neither ema nor last nor a file \(did you mean 'birds_last\.pth'\?\)"):
        find_weights(folder, "bird_last.pth")
