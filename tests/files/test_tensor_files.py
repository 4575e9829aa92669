"""Files of tensors: read whole or refused in a sentence, by mmap where the format allows."""

import pytest
import torch
from safetensors.torch import save_file

from mmaudio.base.errors import UserError
from mmaudio.files.checksums import DamagedFileError
from mmaudio.files.tensor_files import first_not_finite, mismatches, read_state_dict, read_tensor_file, refusal

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(())}


@pytest.mark.parametrize("form", ["zip", "before zip", "safetensors"])
def test_every_format_is_read(tmp_path, form):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    read = read_state_dict(path)
    assert sorted(read) == sorted(STATE)
    assert all(torch.equal(read[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_torn_file_is_a_sentence(tmp_path, suffix):
    whole, torn = tmp_path / f"whole{suffix}", tmp_path / f"torn{suffix}"
    torch.save(STATE, whole) if suffix == ".pth" else save_file(STATE, whole)
    torn.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match=r"torn\.\w+ is no readable weights file: it is torn"):
        read_tensor_file(torn)
    with pytest.raises(UserError, match="is a folder; name a file in it"):
        read_tensor_file(tmp_path)
    with pytest.raises(UserError, match="no file at"):
        read_tensor_file(tmp_path / f"gone{suffix}")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"step": 3}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no weights"):
        read_state_dict(tmp_path / "w.pth")


def test_what_does_not_fit_is_named():
    wanted = {"a.weight": (2, 2), "c": (1,), "d.e": (1,)}
    wrong = mismatches(STATE, wanted, dispensable=("d.",))
    assert wrong == ["a.weight is (2, 3), want (2, 2)", "c is missing", "b is not a tensor of it"]
    assert str(refusal([*wrong, "more"], "the toy")).endswith("b is not a tensor of it (and 1 more); get the published file anew")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_the_first_tensor_that_is_not_finite(dtype):
    state = {"n": torch.tensor(3), "none": torch.zeros(0, dtype=dtype), "good": torch.ones(3).to(dtype)}
    assert first_not_finite(state) is None
    assert first_not_finite(state | {"bad": torch.tensor([1.0, torch.nan]).to(dtype)}) == "bad"
