"""`make house`: this repository holds together, and what would not hold is named."""

import pytest

from tools.house.__main__ import main
from tools.house.measures import passes_on
from tools.house.modules import Modules
from tools.house.stories import read_stories

STORY = """// a remark
# a  from the entry to the sum
train.py:main
  mmaudio/left/sums.py:add
    ~mmaudio/right/terms.py:Terms.first  # handed over
  config.yaml:rate
# b  a step that is gone
train.py:main
  mmaudio/left/sums.py:subtract
  mmaudio/right/terms.py:Terms
"""


def made_up(folder, files):
    """A repository of these files: path → text."""
    for path, text in {"mmaudio/__init__.py": "", "README.md": "# Made up\n", "config.yaml": "rate: 1\n", **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def sound(tmp_path):
    """A repository in which everything holds, and its story."""
    root = made_up(
        tmp_path,
        {
            "train.py": "from mmaudio.left.sums import add\n\n\ndef main():\n    return add()\n",
            "mmaudio/left/sums.py": "from mmaudio.right.terms import Terms\n\n\ndef add():\n    return Terms().first() + 1\n",
            "mmaudio/right/terms.py": "class Terms:\n    def first(self):\n        return 1\n",
            "stories.txt": STORY.split("# b")[0].replace("  config.yaml", "~config.yaml"),
        },
    )
    return root, ["--stories", str(root / "stories.txt"), str(root)]


def test_this_repository_holds_together(capsys):
    assert main([]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "no circle, no doubled file name, every step is there" in told
    assert "a  a caption, from the table to the gradient" in told


def test_a_sound_repository_has_no_fault(sound, capsys):
    _, words = sound
    assert main([*words, "--lists"]) == 0
    told = capsys.readouterr().out
    assert "FAULT" not in told
    assert "mmaudio/right/terms.py:Terms.first  (handed over)" in told


def test_faults_are_named(sound, capsys):
    root, words = sound
    made_up(
        root,
        {
            "mmaudio/right/terms.py": "import mmaudio.left.sums as sums\n\n\nclass Terms:\n    def first(self):\n        return sums\n",
            "mmaudio/left/readers.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmaudio.left.written import A\n",
            "mmaudio/left/written.py": "from mmaudio.left import readers\n\n\nclass A:\n    each = readers\n",
            "mmaudio/right/written.py": "",
            "stories.txt": STORY,
        },
    )
    assert main(words) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("FAULT")] == [
        "FAULT circle of packages: left, right",
        "FAULT circle of files: mmaudio/left/sums.py, mmaudio/right/terms.py",
        "FAULT circle of files, imports for reading too: mmaudio/left/readers.py, mmaudio/left/written.py",
        "FAULT file name in several folders: written: mmaudio/left/written.py, mmaudio/right/written.py",
        "FAULT story a: train.py:main does not name rate (config.yaml:rate)",
        "FAULT story b: mmaudio/left/sums.py:subtract is not there",
        "FAULT story b: train.py:main does not name Terms (mmaudio/right/terms.py:Terms)",
    ]


def test_a_step_that_has_moved_is_told_where_it_is(sound, capsys):
    root, words = sound
    made_up(root, {"stories.txt": "# a  a move\nmmaudio/left/sums.py:Terms\n"})
    assert main(words) == 1
    assert "FAULT story a: mmaudio/left/sums.py:Terms is not there (Terms is in mmaudio/right/terms.py)" in capsys.readouterr().out


def test_changes_of_file_count_the_way_back(tmp_path):
    (tmp_path / "stories.txt").write_text("# a  there and back\na.py:one\n  b.py:two\n  b.py:three\n    c.py:four\n  a.py:five\n")
    (story,) = read_stories(tmp_path / "stories.txt")
    assert story.files() == ["a.py", "b.py", "c.py"]
    assert story.num_changes() == 5  # a b, back to a, b c, back to a, a


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("def f(a, b):\n    '''Words.'''\n    return g(a, b)", True),
        ("def f(a, *, b):\n    return g(a, b=b)", True),
        ("def f(a, b):\n    return g(b, a)", False),
        ("def f(a):\n    return g(a, 1)", False),
        ("def f(a):\n    return g(a, key=len)", False),
        ("def f():\n    return g()", False),
    ],
)
def test_a_function_that_only_passes_on(tmp_path, code, passes):
    modules = Modules(made_up(tmp_path, {"mmaudio/one.py": code}))
    assert passes_on(modules.by_path["mmaudio/one.py"].definitions["f"]) is passes
