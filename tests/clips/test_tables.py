"""Tables of clips, captions, videos and rejects: text is text, mistakes are sentences, nothing vanishes."""

import pytest

from mmaudio.base.errors import UserError
from mmaudio.clips.rejects import Reject, read_rejects, rejects_path, write_rejects
from mmaudio.clips.table import AudioClip, VideoItem, read_captions, read_clips, read_videos, write_clips
from tests.store.examples import ODD_TEXTS


def test_clips_come_back(tmp_path):
    clips = [AudioClip(f"{text}_0", text, row, row + 9) for row, text in enumerate(ODD_TEXTS)]
    write_clips(tmp_path / "new" / "clips.tsv", clips)
    assert read_clips(tmp_path / "new" / "clips.tsv") == clips


def test_every_wrong_row_of_a_clips_table_is_named(tmp_path):
    path = tmp_path / "clips.tsv"
    path.write_text("id\tname\tstart_sample\tend_sample\na\ta\t0\t5\nb\tb\t5\t5\nc\tc\t-1\t5\nd\td\t0\t5.0\ne\te\t٣\t9\n")
    with pytest.raises(UserError) as caught:
        read_clips(path)
    wanted = ["row 2 (id 'b')", "row 3 (id 'c')", "row 4 (id 'd')", "row 5 (id 'e')"]
    assert [sentence.split(": ")[0].split(", ")[1] for sentence in caught.value.sentences] == wanted


def test_captions_last_wins(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("more\tid\tcaption\n1\t00008004\tfirst\n2\t1e5\tNA\n3\t00008004\tlast\n")
    assert read_captions(path) == {"00008004": "last", "1e5": "NA"}
    path.write_text("id\tcapton\n")
    with pytest.raises(UserError, match=r"no column 'caption' \(did you mean 'capton'\?\)"):
        read_captions(path)


def test_videos_come_in_file_order_with_repeats(tmp_path):
    path = tmp_path / "videos.tsv"
    path.write_text("id\tlabel\n0012\tNone\nb\tx\n0012\tagain\n")
    assert read_videos(path) == [VideoItem("0012", "None"), VideoItem("b", "x"), VideoItem("0012", "again")]
    with pytest.raises(UserError, match="no table at"):
        read_videos(tmp_path / "gone.tsv")


def test_rejects_come_back_and_do_not_outlive_their_run(tmp_path):
    path = rejects_path(tmp_path / "v1.16")
    assert path == tmp_path / "v1.16.failed.tsv"
    assert rejects_path(tmp_path / "clips.tsv") == tmp_path / "clips.failed.tsv"
    assert read_rejects(path) == []
    rejects = [Reject(text, text + ".flac", "read", text) for text in ODD_TEXTS]
    write_rejects(path, rejects)
    assert path.read_text().startswith("id\tfile\tstage\treason\n")
    assert read_rejects(path) == rejects
    write_rejects(path, [])
    assert not path.exists()
