"""`mmaudio weights`: what is listed, fetched and verified, and what it says of mistakes."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmaudio.checkpoints.ema_snapshots import save_snapshots
from mmaudio.checkpoints.export import write_export
from mmaudio.checkpoints.run_files import RunFiles, RunState, WeightsRecord
from mmaudio.checkpoints.save import save_checkpoint, save_weights
from mmaudio.weights import CATALOGUE, VARIANTS
from tests.weights.conftest import CONTENT, place, server

__all__ = ["place", "server"]  # fixtures of the package's own tests
VAE = Path("ext_weights/v1-16.pth")


def lines(text: str) -> dict[str, list[str]]:
    """A table as printed: first word of a line → its cells."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def here(run_command, name="vae_16k") -> str:
    ended = run_command("weights", "list", name)
    assert ended.code == 0
    return lines(ended.out)[name][1]


def test_list_names_every_row(run_command, place):
    ended = run_command("weights", "list")
    assert ended.code == 0
    rows = lines(ended.out)
    assert set(rows) == {"name", *CATALOGUE}
    assert {cells[1] for name, cells in rows.items() if name != "name"} == {"missing"}
    assert "CC-BY-NC 4.0" in ended.out
    assert "ext_weights/v1-16.pth" in ended.out
    assert list(place.iterdir()) == []


def test_fetch_list_and_verify(run_command, server):
    ended = run_command("weights", "fetch", "vae_16k", "empty_string")
    assert ended.code == 0, ended.err
    assert f"vae_16k: {VAE}" in ended.out
    assert here(run_command) == "verified"
    ended = run_command("weights", "verify", "vae_16k", "empty_string")
    assert ended.code == 0
    assert f"vae_16k: {VAE}: right" in ended.out
    VAE.write_bytes(CONTENT)
    assert here(run_command) == "unverified"
    with open(VAE, "r+b") as file:
        file.write(b"broken")
    ended = run_command("weights", "verify", "vae_16k", "empty_string", "synchformer")
    assert ended.code == 2
    said = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(said) == 2
    assert "v1-16.pth is not the published file" in said[0]
    assert "synchformer_state_dict.pth is missing; Synchformer is needed for" in said[1]
    assert here(run_command) == "wrong"


def test_verify_reads_the_file_whatever_is_remembered(run_command, server):
    run_command("weights", "fetch", "vae_16k")
    before = VAE.stat()
    VAE.write_bytes(CONTENT[::-1])
    os.utime(VAE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert here(run_command) == "verified", "at a glance nothing has changed"
    assert run_command("weights", "verify", "vae_16k").code == 2


def test_fetch_mends_and_keeps_what_was_there(run_command, server):
    VAE.parent.mkdir()
    VAE.write_bytes(b"my own")
    ended = run_command("weights", "fetch", "vae_16k")
    assert ended.code == 0, ended.err
    assert VAE.read_bytes() == CONTENT
    assert VAE.with_name("v1-16.pth.aside").read_bytes() == b"my own"
    asked = len(server.requests)
    assert run_command("weights", "fetch", "vae_16k").code == 0
    assert len(server.requests) == asked


def test_what_cannot_be_had_does_not_keep_the_others(run_command, server, monkeypatch):
    ended = run_command("weights", "fetch", "clip", "vae_16k", "--root", "store")
    assert ended.code == 2
    assert "there is no repository apple/DFN5B-CLIP-ViT-H-14-378" in ended.err
    assert (Path("store") / VAE).read_bytes() == CONTENT


def test_a_file_of_the_hub_that_came_another_way_is_compared_with_the_hub(run_command, server, monkeypatch):
    repo, folder = "nvidia/bigvgan_v2_44khz_128band_512x", Path("ext_weights/bigvgan_v2_44khz_128band_512x")
    folder.mkdir(parents=True)
    for file, content in {"config.json": b"{}", "bigvgan_generator.pt": CONTENT}.items():
        server.add_file(repo, file, content)
        (folder / file).write_bytes(content)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = run_command("weights", "verify", "vocoder_44k")
    assert "nothing at hand to compare it with" in ended.out
    assert server.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert here(run_command, "vocoder_44k") == "unverified"
    ended = run_command("weights", "verify", "vocoder_44k")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, f"vocoder_44k: {folder}: right")
    assert here(run_command, "vocoder_44k") == "verified"


def test_groups(run_command, place, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert list(lines(run_command("weights", "list", "--mode", "44k").out)) == ["name", "vae_44k", "synchformer", "clip"]
    said = run_command("weights", "fetch", "--variant", "small_16k").err
    files = ("mmaudio_small_16k.pth", "v1-16.pth", "best_netG.pt", "synchformer_state_dict.pth", "DFN5B-CLIP-ViT-H-14-384")
    assert [file for file in files if f"{file}" not in said] == []
    assert said.count("HF_HUB_OFFLINE is set") == len(files)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fecth", "clip"], "no action 'fecth' (did you mean 'fetch'?)"),
        (["fetch", "vae16k"], "no weights named 'vae16k' (did you mean 'vae_16k'?)"),
        (["verify", "vae16k"], "no weights named 'vae16k' (did you mean 'vae_16k'?)"),
        (["verify", "."], ". holds no file of weights (.pth, .pt, .bin, .ckpt, .safetensors); name another folder, or a file"),
        (["fetch", "."], "no weights named '.'"),
        (["fetch"], "name what to fetch: --mode, --variant, or some of small_16k"),
        (["fetch", "--mode", "16"], "--mode"),
        (["list", "--varient", "small_16k"], "--varient (did you mean '--variant'?)"),
    ],
)
def test_mistakes_are_sentences(run_command, place, words, sentence):
    ended = run_command("weights", *words)
    assert ended.code == 2
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert list(place.iterdir()) == []


def test_export_is_handed_on(run_command, monkeypatch):
    monkeypatch.setattr("mmaudio.commands.weights._export_action", lambda argv: print("export", argv) or 0)
    ended = run_command("weights", "export", "--weights", "w.pth", "--help")
    assert ended.out == "export ['--weights', 'w.pth', '--help']\n"


def test_verify_reads_files_and_folders_of_ones_own(run_command, place):
    folder, weights = Path("output/birds"), {"w": torch.zeros(1000)}
    files, record = RunFiles(folder, "birds"), WeightsRecord("nano_16k", "16k", 1.0, "lite", 5, "birds")
    for step in (1, 2):
        save_checkpoint(files, RunState(step, weights, {}, {"last_epoch": step}, None), record)
    save_weights(files, weights, record)
    save_snapshots(files.ema_folder, [weights], 2)
    write_export(folder / "mine.safetensors", weights, {})
    save_file(weights, folder / "theirs.safetensors")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    ended = run_command("weights", "verify", folder)
    assert ended.code == 0, ended.err
    unchecked = "unchecked: it can be read, but carries no checksum"
    names = ("birds_ckpt_last.pth", "birds_ckpt_shadow.pth", "birds_last.pth", "ema_ckpts/0.2.pt", "mine.safetensors")
    told = {str(folder / name): "right" for name in names} | {str(folder / name): unchecked for name in ("theirs.safetensors", "old.pth")}
    assert dict(line.split(": ", 1) for line in ended.out.splitlines()) == told
    for name in names:
        content = bytearray((folder / name).read_bytes())
        content[content.rindex(bytes(500))] ^= 1
        (folder / name).write_bytes(content)
    ended = run_command("weights", "verify", folder, folder / "old.pth")
    assert ended.code == 2
    said = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert [line.split()[1] for line in said] == sorted(str(folder / name) for name in names)
    assert all(" is damaged" in line for line in said)
    assert ended.out.count(unchecked) == 3
    os.replace(folder / "old.pth", files.weights_last)
    ended = run_command("weights", "verify", files.weights_last)
    assert ended.code == 2
    assert f"{files.weights_last}.json was not written for the birds_last.pth that is there now" in ended.err


def test_verify_says_of_a_row_what_its_files_can_be_checked_by(run_command, server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = Path("ext_weights/bigvgan_v2_44khz_128band_512x")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    torch.save({"w": torch.zeros(1000)}, folder / "bigvgan_generator.pt")
    said = run_command("weights", "verify", "vocoder_44k").out.splitlines()[-1]
    own = "right by the checksums in it: bigvgan_generator.pt; unchecked: config.json"
    assert said == f"vocoder_44k: {folder}: there, with nothing at hand to compare it with; {own}"
    content = bytearray((folder / "bigvgan_generator.pt").read_bytes())
    content[content.rindex(bytes(500))] ^= 1
    (folder / "bigvgan_generator.pt").write_bytes(content)
    ended = run_command("weights", "verify", "vocoder_44k")
    assert ended.code == 2
    assert "bigvgan_generator.pt is damaged: the checksum of its part bigvgan_generator/data/0 is wrong" in ended.err


def test_the_published_checksums():
    published = [row.md5 for row in CATALOGUE.values() if row.md5]
    assert len(published) == len(set(published)) == len(VARIANTS) + 4
    assert all(len(bytes.fromhex(md5)) == hashlib.md5().digest_size for md5 in published)
