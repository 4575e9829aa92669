"""Averages exchanged with the package nitrous-ema, which the published system trains with: it writes and we read, and back."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmaudio.checkpoints.ema_snapshots import list_snapshots, save_snapshots, synthesize
from mmaudio.trainer.ema_averages import PowerAverages
from tests.golden.fill import given

nitrous = pytest.importorskip("nitrous_ema")
SIGMAS = (0.05, 0.1)
EVERY = 10


class Toy(nn.Module):
    """Two layers, a buffer, and a constant of the data that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.out = nn.Linear(3, 2)
        self.latent_mean = nn.Parameter(torch.full((3,), 0.7), requires_grad=False)
        self.register_buffer("table", torch.ones(5))

    def move(self, n: int) -> None:
        """Put every parameter where it is before update n."""
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                if name != "latent_mean":
                    tensor.copy_(given(f"nitrous/{name}", *tensor.shape) * (1 + 0.03 * n) + 0.2 * torch.sin(torch.tensor(n / 5)))


def theirs(model: nn.Module, folder: Path):
    how = {"checkpoint_every_num_steps": EVERY, "checkpoint_folder": str(folder), "update_every": 1, "step_size_correction": True}
    return nitrous.PostHocEMA(model, sigma_rels=SIGMAS, **how)  # as the published system trains


def assert_same_synthesis(ours: dict[str, torch.Tensor], of_theirs: dict[str, torch.Tensor]) -> None:
    assert [f"ema_model.{name}" for name in ours] == [name for name in of_theirs if name != "_extra_state"]
    for name, tensor in ours.items():
        if name == "latent_mean":  # they scale it by the sum of the weights
            assert torch.equal(tensor, torch.full((3,), 0.7))
        else:
            torch.testing.assert_close(tensor, of_theirs[f"ema_model.{name}"], rtol=1e-6, atol=1e-6)


def assert_continue_together(model: Toy, ours: PowerAverages, other, first: int) -> None:
    for n in range(first, first + 7):
        model.move(n)
        ours.follow()
        other.update()
    mine, of_theirs = ours.state_dict(), other.state_dict()
    assert list(mine) == list(of_theirs)
    for name, value in of_theirs.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-6)
        else:
            assert mine[name] == value


@pytest.fixture(scope="module")
def written_by_them(tmp_path_factory):
    """A run of 45 updates with their averages; snapshots at 10, 20, 30, 40."""
    model, folder = Toy(), tmp_path_factory.mktemp("theirs")
    other = theirs(model, folder)
    for n in range(1, 46):
        model.move(n)
        other.update()
    return other, folder


@pytest.mark.parametrize(("sigma", "step"), [(0.05, 40), (0.08, None), (0.08, 30), (0.15, 40), (0.2, 20)])
def test_we_synthesise_of_their_files(written_by_them, sigma, step):
    other, folder = written_by_them
    assert len(list_snapshots(folder)) == 8
    expected = other.synthesize_ema_model(sigma_rel=sigma, step=step, device="cpu").state_dict()
    assert_same_synthesis(synthesize(folder, SIGMAS, sigma, step), expected)


def test_we_continue_their_averages(written_by_them, tmp_path):
    other, _ = written_by_them
    torch.save(other.state_dict(), tmp_path / "ema.pth")
    model = Toy()
    ours, again = PowerAverages(model.state_dict(), SIGMAS), theirs(model, tmp_path / "ckpts")
    entries = torch.load(tmp_path / "ema.pth", weights_only=True)
    ours.load_state_dict(entries)
    again.load_state_dict(entries)
    assert ours.updates_done == 45
    assert_continue_together(model, ours, again, 46)


@pytest.mark.parametrize("sigma", [0.05, 0.08, 0.2])
def test_they_synthesise_of_our_files_and_continue_our_averages(tmp_path, sigma):
    model, folder = Toy(), tmp_path / "ours"
    ours = PowerAverages(model.state_dict(), SIGMAS)
    for n in range(1, 46):
        model.move(n)
        ours.follow()
        if n % EVERY == 0:
            save_snapshots(folder, ours.averages, n)
    other = theirs(model, folder)
    assert other.load_state_dict(ours.state_dict(), strict=True) == nn.modules.module._IncompatibleKeys([], [])
    assert_same_synthesis(synthesize(folder, SIGMAS, sigma), other.synthesize_ema_model(sigma_rel=sigma, device="cpu").state_dict())
    assert_continue_together(model, ours, other, 46)
