"""Tables of clips, captions, videos and rejects: text is text, mistakes are sentences, nothing vanishes."""

import tracemalloc

import pytest

from mmaudio.base.errors import UserError
from mmaudio.clips.clip_tables import (
    AudioClip,
    Reject,
    VideoItem,
    read_audio_captions,
    read_clips,
    read_rejects,
    read_videos,
    rejects_path,
    write_clips,
    write_rejects,
)
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


def test_padding_is_a_column_only_where_there_is_any(tmp_path):
    path, plain, padded = tmp_path / "clips.tsv", AudioClip("a_0", "a", 0, 9), AudioClip("a_1", "a", 9, 18, 4)
    write_clips(path, [plain])
    assert path.read_text() == "id\tname\tstart_sample\tend_sample\na_0\ta\t0\t9\n"
    write_clips(path, [plain, padded])
    assert path.read_text() == "id\tname\tstart_sample\tend_sample\tpadded_samples\na_0\ta\t0\t9\t0\na_1\ta\t9\t18\t4\n"
    assert read_clips(path) == [plain, padded]
    path.write_text("padded_samples\tend_sample\tmore\tstart_sample\tname\tid\n4\t18\tx\t9\ta\ta_1\n")
    assert read_clips(path) == [padded]


@pytest.mark.parametrize("padded", ["9", "10", "-1", "", "1.0", "٣"])
def test_wrong_padding_is_named(tmp_path, padded):
    path = tmp_path / "clips.tsv"
    path.write_text(f"id\tname\tstart_sample\tend_sample\tpadded_samples\na\ta\t0\t9\t8\nb\tb\t0\t9\t{padded}\n")
    with pytest.raises(UserError) as caught:
        read_clips(path)
    want = "want a whole number less than the 9 samples of the clip"
    assert caught.value.sentences == (f"{path}, row 2 (id 'b'): padded_samples is {padded!r}; {want}",)


def test_a_number_too_long_to_be_one_is_named(tmp_path):
    path = tmp_path / "clips.tsv"
    path.write_text(f"id\tname\tstart_sample\tend_sample\na\ta\t0\t{'9' * 5000}\n")
    with pytest.raises(UserError, match="row 1"):
        read_clips(path)


def test_reading_holds_little_beside_what_it_hands_on(tmp_path):
    path = tmp_path / "clips.tsv"
    write_clips(path, [AudioClip(f"{row:06d}", f"{row // 5:06d}", row, row + 10**6) for row in range(20_000)])
    tracemalloc.start()
    clips = read_clips(path)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clips) == 20_000 and kept / 20_000 < 300
    assert most - kept < 3 * path.stat().st_size + 10**6


def test_captions_last_wins(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("more\tid\tcaption\n1\t00008004\tfirst\n2\t1e5\tNA\n3\t00008004\tlast\n")
    assert read_audio_captions(path) == {"00008004": "last", "1e5": "NA"}
    path.write_text("id\tcapton\n")
    with pytest.raises(UserError, match=r"no column 'caption' \(did you mean 'capton'\?\)"):
        read_audio_captions(path)


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
