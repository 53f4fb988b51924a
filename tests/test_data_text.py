"""Text: tokens, vocabulary, splits, chunks, and what is said about files that do not fit."""

import hashlib
import io
import platform
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxquant_np.data import Split, Vocabulary, chunks, corpus, load_text
from proxquant_np.data.text import PENN_TREEBANK, tokenize

LINES = "the cat sat\non the mat\n\nthe end\n" * 10


def write(path, content):
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def test_tokenize():
    assert tokenize("ab\n\nc\n", "character") == ["a", "b", "<eos>", "<eos>", "c", "<eos>"]
    assert tokenize(" a  bc\nd", "word") == ["a", "bc", "<eos>", "d", "<eos>"]


def test_vocabulary_ranks_by_frequency_and_maps_the_rest_to_unknown():
    vocabulary = Vocabulary.of("b a b c a b".split(), "word", size=4)
    assert vocabulary.tokens == ("<unk>", "<eos>", "b", "a") and len(vocabulary) == 4
    np.testing.assert_array_equal(vocabulary.encode("c b\n<unk> a"), [0, 2, 1, 0, 3, 1])
    assert vocabulary.encode("a").dtype == np.int64
    assert Vocabulary.of("b a".split(), "word").tokens[2:] == ("a", "b")


@given(st.text(st.characters(exclude_characters="\n"), max_size=9), st.text(max_size=9))
def test_characters_round_trip(a, b):
    text = f"{a}\n{b}"
    vocabulary = Vocabulary.of(tokenize(text, "character"), "character")
    assert vocabulary.decode(vocabulary.encode(text)) == text.removesuffix("\n") + "\n"


def test_words_round_trip_up_to_white_space():
    vocabulary = Vocabulary.of(tokenize(LINES, "word"), "word")
    assert vocabulary.decode(vocabulary.encode(LINES.replace(" ", "  "))) == LINES


def test_vocabulary_refuses():
    with pytest.raises(ValueError, match="level"):
        Vocabulary(["<unk>", "<eos>"], "syllable")
    with pytest.raises(ValueError, match="tokens must be distinct"):
        Vocabulary(["a", "b"], "word")
    with pytest.raises(ValueError, match="size"):
        Vocabulary.of("ab", "word", size=1)


@pytest.mark.parametrize("level", ["character", "word"])
def test_splits_cover_the_text_in_order_and_targets_are_shifted_by_one(tmp_path, level):
    text = load_text(write(tmp_path / "a.txt", LINES), level)
    whole = text.vocabulary.encode(LINES)
    parts = [np.append(split.x, split.y[-1]) for split in text.splits]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert [len(p) for p in parts[1:]] == pytest.approx([len(whole) / 10] * 2, abs=1)
    for split in text.splits:
        np.testing.assert_array_equal(split.x[1:], split.y[:-1])
        assert split.x.dtype == split.y.dtype == np.int64
    digest = hashlib.sha256(LINES.encode()).hexdigest()
    known = {"words": 8, "unknown_in_validation": 0, "unknown_in_test": 0}
    assert text.source == {"name": "a.txt", "sha256": digest} | (known if level == "word" else {})


def test_vocabulary_is_that_of_the_training_part(tmp_path):
    text = load_text(write(tmp_path / "a.txt", "ab" * 40 + "z" * 20))
    assert text.vocabulary.tokens == ("<unk>", "<eos>", "a", "b")
    assert np.all(text.splits.test.x == 0)


def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path):
    plain = load_text(write(tmp_path / "a.txt", LINES))
    marked = load_text(write(tmp_path / "b.txt", "\ufeff" + LINES.replace("\n", "\r\n")))
    assert plain.source["sha256"] == marked.source["sha256"]
    np.testing.assert_array_equal(plain.splits.train.x, marked.splits.train.x)


def test_penn_treebank_folder(tmp_path):
    for name, content in zip(
        PENN_TREEBANK, (" the <unk> cat \n", " a cat \n", " the \n"), strict=True
    ):
        write(tmp_path / name, content)
    text = load_text(tmp_path, "word")
    assert text.vocabulary.tokens == ("<unk>", "<eos>", "cat", "the")
    np.testing.assert_array_equal(text.splits.train.x, [3, 0, 2])
    np.testing.assert_array_equal(text.splits.train.y, [0, 2, 1])
    np.testing.assert_array_equal(text.splits.validation.x, [0, 2])
    np.testing.assert_array_equal(text.splits.test.x, [3])
    assert text.source["name"] == ", ".join(PENN_TREEBANK)
    (tmp_path / PENN_TREEBANK[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"ptb\.valid\.txt does not exist.*simple-examples"):
        load_text(tmp_path, "word")


CORPUS = {"a.train.txt": "the cat sat\n" * 9, "a.valid.txt": "the dog\n", "a.test.txt": "a cat\n"}


def pack(path, members):
    """A tar archive of these contents by name; in place of a content, the target of a link."""
    with tarfile.open(path, f"w:{'xz' if path.suffix == '.xz' else ''}") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, Path):
                member.type, member.linkname = tarfile.SYMTYPE, str(content)
                tar.addfile(member)
            else:
                member.size = len(content.encode("latin-1"))
                tar.addfile(member, io.BytesIO(content.encode("latin-1")))
    return path


def test_a_corpus_is_the_same_in_a_folder_and_in_an_archive(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, content in CORPUS.items():
        write(tmp_path / "folder" / name, content)
    folder = load_text(tmp_path / "folder", "word")
    assert folder.source["unknown_in_validation"] == folder.source["unknown_in_test"] == 1
    assert folder.source["words"] == len(folder.vocabulary) == 5
    np.testing.assert_array_equal(
        folder.splits.validation.x, folder.vocabulary.encode("the dog")[:-1]
    )
    # Names that lead out of the archive, and what else is in it, do not matter: nothing is written.
    odd = {
        "/etc/" + "a.train.txt": CORPUS["a.train.txt"],
        "../../a.valid.txt": CORPUS["a.valid.txt"],
    }
    odd |= {"./a.test.txt": CORPUS["a.test.txt"], "README": "x", "home": Path("/etc/passwd")}
    before = sorted(tmp_path.rglob("*"))
    for suffix, members in ((".tar.xz", CORPUS), (".tar", odd)):
        text = load_text(pack(tmp_path / f"a{suffix}", members), "word")
        assert text.source == folder.source
        np.testing.assert_array_equal(text.splits.train.x, folder.splits.train.x)
    assert sorted(tmp_path.rglob("*")) == sorted(
        [*before, tmp_path / "a.tar", tmp_path / "a.tar.xz"]
    )


def test_the_penn_treebanks_names_come_first(tmp_path):
    for name in (*PENN_TREEBANK, "ptb.char.train.txt"):
        write(tmp_path / name, "a b c\n")
    assert load_text(tmp_path, "word").source["name"] == ", ".join(PENN_TREEBANK)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"a.valid.txt": None}, FileNotFoundError, "nor another file with valid in its name"),
        (
            {"b.test.txt": "x"},
            ValueError,
            r"one file with test in its name, got a\.test\.txt, b\.t",
        ),
        ({"a.test.txt": " \n"}, ValueError, r"a\.test\.txt is empty"),
        (
            {"a.test.txt": "caf\xe9" * 20},
            ValueError,
            r"a\.test\.txt must be UTF-8 text, but its byte 3",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_parts_that_do_not_fit(tmp_path, kind, changes, error, message):
    members = {name: text for name, text in (CORPUS | changes).items() if text is not None}
    path = tmp_path / "a.tar.xz"
    if kind == "archive":
        pack(path, members)
    else:
        path = tmp_path
        for name, content in members.items():
            (path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(error, match=message):
        load_text(path, "word")


def test_two_files_for_one_part_of_an_archive(tmp_path):
    """The archive is whole: the message is about the files alone, also if they share a name."""
    for more, said in [
        ({"b.train.txt": "x\n"}, "with train in its name, got a.train.txt, b.train.txt"),
        ({"old/a.train.txt": "x\n"}, "called a.train.txt, got a.train.txt, old/a.train.txt"),
    ]:
        path = pack(tmp_path / "a.tar.xz", CORPUS | more)
        with pytest.raises(ValueError) as refused:
            load_text(path)
        assert str(refused.value) == f"{path} must hold one file {said}"
    members = CORPUS | {"old/README": "x", "README": "y"}  # of the others it does not matter
    assert load_text(pack(tmp_path / "b.tar", members)).splits.train.x.size > 9


def test_archives_that_do_not_fit(tmp_path, monkeypatch):
    link = pack(tmp_path / "link.tar", CORPUS | {"a.test.txt": Path("/etc/passwd")})
    with pytest.raises(ValueError, match=r"a\.test\.txt must be a file, got a link"):
        load_text(link)
    whole = pack(tmp_path / "a.tar.xz", CORPUS)
    for damaged in (whole.read_bytes()[:-40], b"", b"no archive" * 99):
        (tmp_path / "b.tar.xz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"b\.tar\.xz must be a whole tar archive of three"):
            load_text(tmp_path / "b.tar.xz")
    monkeypatch.setattr(corpus, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"a\.train\.txt must have at most 100 bytes, got 108"):
        load_text(whole)


def test_a_line_may_be_long(tmp_path):
    for name in CORPUS:
        write(tmp_path / name, "word " * 400_000)  # 2 MB without a line end
    text = load_text(tmp_path, "word")
    assert text.source["words"] == 3 and len(text.splits.test.x) == 400_000


def test_default_text_comes_with_python():
    text, again = load_text(), load_text()
    assert text.source == again.source
    assert text.source["name"] == "pydoc_data.topics"
    assert text.source["python"] == platform.python_version()
    np.testing.assert_array_equal(text.splits.train.x, again.splits.train.x)
    assert len(text.splits.train.x) > 200_000 and 60 < len(text.vocabulary) < 250
    assert "statement" in text.vocabulary.decode(text.splits.train.x[:100])


def test_default_text_does_not_repeat_the_training_part_in_the_test_part():
    text = load_text()
    train, test = (
        set(text.vocabulary.decode(split.x).split("\n\n"))
        for split in (text.splits.train, text.splits.test)
    )
    assert len(train) > 1000 and len(test) > 100
    assert not train & test


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9" * 20, "must be UTF-8 text, but its byte 3"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"ten chars.", r"too short: .* at least 2 tokens \(characters\) each, got 8, 1, 2"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"a\.txt .*{message}"):
        load_text(write(tmp_path / "a.txt", content))


def test_missing_file_and_unknown_level(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt does not exist; expected a UTF-8"):
        load_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="level"):
        load_text(level="byte")


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9))
def test_chunks_are_contiguous_columns(tokens, batch_size, length):
    stream = np.arange(tokens + 1)
    split = Split(stream[:-1], stream[1:])
    if tokens < batch_size:
        with pytest.raises(ValueError, match="batch_size"):
            chunks(split, batch_size, length)
        return
    pieces = chunks(split, batch_size, length)
    rows = tokens // batch_size
    assert [len(p.x) for p in pieces[:-1]] == [length] * (len(pieces) - 1)
    x, y = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    np.testing.assert_array_equal(x, np.arange(rows * batch_size).reshape(batch_size, rows).T)
    np.testing.assert_array_equal(y, x + 1)
    assert all(np.shares_memory(p.x, stream) for p in pieces)


@pytest.mark.parametrize(("batch_size", "length"), [(0, 3), (2, 0)])
def test_chunks_refuse(batch_size, length):
    with pytest.raises(ValueError, match="must be an integer >= 1, got 0"):
        chunks(Split(np.arange(9), np.arange(9)), batch_size, length)
