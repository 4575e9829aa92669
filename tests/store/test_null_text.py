"""The file of the null text feature: what is written comes back, and what is no such file is told."""

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.specs import TEXT_TOKENS, TEXT_WIDTH
from mmaudio.store.format import read_null_text, write_null_text


def test_what_is_written_comes_back(tmp_path):
    feature = torch.randn(TEXT_TOKENS, TEXT_WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    write_null_text(tmp_path / "empty_string.pth", feature)
    assert torch.load(tmp_path / "empty_string.pth").shape == (1, TEXT_TOKENS, TEXT_WIDTH)  # as the published system has it
    assert torch.equal(read_null_text(tmp_path / "empty_string.pth"), feature.float())


def test_another_file_is_told(tmp_path):
    path = tmp_path / "empty_string.pth"
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match=r"empty_string\.pth is no readable weights file"):
        read_null_text(path)
    for content in (torch.zeros(TEXT_TOKENS, 3), {"feature": torch.zeros(TEXT_TOKENS, TEXT_WIDTH)}):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"empty_string\.pth does not hold the text feature of the empty string"):
            read_null_text(path)
