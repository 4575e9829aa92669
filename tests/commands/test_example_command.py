"""`mmaudio example` and a run that is called as it is: only what the example itself has left is removed."""

import json

import pytest

from mmaudio.base.errors import UserError
from mmaudio.commands import example

RUN = ("output", "example")


@pytest.fixture
def run_example(monkeypatch, tmp_path):
    """Run the command in an empty folder, its stages taken to be a training that writes two files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()

    def train(*_):
        (example.RUN / "deep").mkdir(exist_ok=True)
        (example.RUN / "deep" / "example_last.pth").write_bytes(b"weights")

    monkeypatch.setattr(example, "commands", lambda _: {"train": ""})
    monkeypatch.setattr(example, "_run", lambda *_: train() or 1.0)
    monkeypatch.setattr(example, "summarise", lambda *_: {"page": "x"})
    monkeypatch.setattr(example, "start_logging", lambda: None)
    return lambda: example.main([])


def files_under(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_example_is_made_anew(run_example, tmp_path):
    assert run_example() == 0
    record = json.loads((tmp_path / "output" / "example" / "example.json").read_text())
    assert set(record["mark"]["files"]) == {"deep/example_last.pth", "summary.json"}
    (tmp_path / "output" / "example" / "summary.json").unlink()  # nobody's work is lost with it
    assert run_example() == 0
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["example"]


@pytest.mark.parametrize(
    "files", [{"example_last.pth": "mine", "config.yaml": "exp_id: example"}, {"example.json": "{}"}, {"notes.txt": ""}]
)
def test_a_run_called_example_is_left_alone(run_example, tmp_path, files):
    folder = tmp_path.joinpath(*RUN)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    before = files_under(tmp_path)
    with pytest.raises(UserError, match=r"output/example was not made by this program.*: mv "):
        run_example()
    assert files_under(tmp_path) == before


def test_an_example_that_was_gone_on_with_is_left_alone(run_example, tmp_path):
    assert run_example() == 0
    (tmp_path.joinpath(*RUN) / "deep" / "example_last.pth").write_bytes(b"better weights")
    before = files_under(tmp_path)
    with pytest.raises(UserError, match=r"holds 'deep/example_last.pth', which this program did not make, or which changed since"):
        run_example()
    assert files_under(tmp_path) == before


def test_what_a_stopped_example_has_left_is_moved_aside(run_example, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(example, "summarise", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_example()
    assert run_example() == 0
    assert (tmp_path / "output" / "example.aside" / "deep" / "example_last.pth").read_bytes() == b"weights"
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["example", "example.aside"]


def test_an_example_behind_a_link(run_example, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").mkdir()
    tmp_path.joinpath(*RUN).symlink_to(tmp_path / "disk")
    for _ in range(2):
        assert run_example() == 0
        assert tmp_path.joinpath(*RUN).is_symlink() and (tmp_path / "disk" / "summary.json").is_file()
