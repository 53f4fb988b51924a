"""Text for language models: any UTF-8 file, the Penn Treebank, or the text that Python comes with.

A text is one stream of tokens, characters or words, in which every line ends with `<eos>`. Its
splits pair each token with the next: `y[i]` follows `x[i]`.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.checks import check_choice, check_integer
from proxquant_np.data.corpus import PENN_TREEBANK as PENN_TREEBANK
from proxquant_np.data.corpus import read_texts
from proxquant_np.data.splits import Split, Splits
from proxquant_np.files import shown

UNKNOWN, END = "<unk>", "<eos>"
LEVELS = ("character", "word")


class Vocabulary:
    """Tokens and their numbers: 0 is `<unk>`, any token without a number of its own, 1 is `<eos>`.

    `tokens` lists all tokens by number; `level` says what a token is.

    Examples:
        >>> vocabulary = pq.data.Vocabulary.of("hello", "character")
        >>> vocabulary.tokens
        ('<unk>', '<eos>', 'l', 'e', 'h', 'o')
        >>> vocabulary.encode("hex")
        array([4, 3, 0, 1])
        >>> vocabulary.decode(vocabulary.encode("hole")).strip()
        'hole'
    """

    def __init__(self, tokens: Sequence[str], level: str) -> None:
        if tuple(tokens[:2]) != (UNKNOWN, END) or len(set(tokens)) < len(tokens):
            raise ValueError(
                f"tokens must be distinct and start with {UNKNOWN!r}, {END!r}, "
                f"got {len(tokens)} that start with {list(tokens[:2])}"
            )
        self.tokens = tuple(tokens)
        self.level = check_choice("level", level, LEVELS)
        self._numbers = {token: i for i, token in enumerate(tokens)}

    @classmethod
    def of(cls, stream: Iterable[str], level: str, size: int | None = None) -> Vocabulary:
        """All tokens of the stream, the most frequent first; at most `size` of them, if given."""
        if size is not None:  # <unk> and <eos> are always in it
            size = check_integer("size", size, least=2)
        counts = Counter(stream)
        ranked = sorted(counts.keys() - {UNKNOWN, END}, key=lambda token: (-counts[token], token))
        return cls([UNKNOWN, END, *ranked][:size], level)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the text's tokens, int64."""
        return self._numbered(tokenize(text, self.level))

    def _numbered(self, stream: Sequence[str]) -> np.ndarray:
        return np.array([self._numbers.get(token, 0) for token in stream], np.int64)

    def unknown(self, stream: Iterable[str]) -> int:
        """How many tokens of a stream have no number of their own, `<unk>` itself not counted."""
        return sum(token not in self._numbers for token in stream)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of these tokens, line by line, with one space between words."""
        tokens = ["\n" if i == 1 else self.tokens[i] for i in numbers]
        if self.level == "character":
            return "".join(tokens)
        return re.sub(" ?\n ?", "\n", " ".join(tokens))


class Text(NamedTuple):
    """`splits` of token numbers, the `vocabulary` that gave them, and the `source`.

    `source` belongs in every record of a result: the text's name, the SHA-256 of the text as UTF-8
    with Unix line ends and, for the default text, the version of Python that it came with; of
    words, how many the vocabulary holds, and how many of each part the training part lacks.

    Examples:
        >>> splits, vocabulary, source = pq.data.load_text()
        >>> splits.train.x.dtype, vocabulary.level
        (dtype('int64'), 'character')
    """

    splits: Splits
    vocabulary: Vocabulary
    source: dict[str, Any]


def tokenize(text: str, level: str) -> list[str]:
    """The characters of each line, or its words between white space, followed by `<eos>`."""
    by_word = check_choice("level", level, LEVELS) == "word"
    tokens: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        tokens += line.split() if by_word else line
        tokens.append(END)
    return tokens


def load_text(
    path: str | Path | None = None, level: str = "character", vocabulary_size: int | None = None
) -> Text:
    """A text's splits: the first 80% of its tokens for training, then 10% validation, 10% test.

    Args:
        path: a UTF-8 file; or a folder or tar archive with the Penn Treebank's ptb.train.txt,
            ptb.valid.txt and ptb.test.txt or another corpus of three such parts, which are then
            the splits; or None for the language reference inside CPython (`pydoc_data.topics`),
            which differs slightly between versions of Python.
        level: "character" or "word".
        vocabulary_size: keep only so many of the most frequent tokens, `<unk>` and `<eos>`
            included. Without it the training part of a file has no `<unk>` to learn from.

    The vocabulary is built from the training part alone, so a token that first appears later is
    `<unk>`; of words, the source says how many. x and y are int64 of shape (tokens - 1,).

    Raises:
        FileNotFoundError: a file or folder does not exist, or a part of a corpus is missing.
        ValueError: a file is not UTF-8, or empty, or too short, or the level is unknown; or what
            `corpus.read_texts` refuses.

    Examples:
        >>> splits = pq.data.load_text(level="word", vocabulary_size=100).splits
        >>> np.array_equal(splits.train.x[1:], splits.train.y[:-1]), int(splits.train.x.max())
        (True, 99)
    """
    check_choice("level", level, LEVELS)
    found = {"pydoc_data.topics": _language_reference()} if path is None else read_texts(Path(path))
    names, texts = [*found], [*found.values()]
    streams = [tokenize(text, level) for text in texts]
    if len(streams) == 1:
        (all_,) = streams
        first, second = len(all_) * 8 // 10, len(all_) * 9 // 10
        streams = [all_[:first], all_[first:second], all_[second:]]
    if min(map(len, streams)) < 2:
        raise ValueError(
            f"{shown(path or names[0])} is too short: training, validation and test need at least "
            f"2 tokens ({level}s) each, got {', '.join(str(len(stream)) for stream in streams)}"
        )
    vocabulary = Vocabulary.of(streams[0], level, vocabulary_size)
    numbers = [vocabulary._numbered(stream) for stream in streams]
    source: dict[str, Any] = {"name": ", ".join(names), "sha256": _sha256(texts)}
    if path is None:
        source["python"] = platform.python_version()
    if level == "word":
        source["words"] = len(vocabulary)
        for name, stream in zip(("validation", "test"), streams[1:], strict=True):
            source[f"unknown_in_{name}"] = vocabulary.unknown(stream)
    return Text(Splits(*(Split(n[:-1], n[1:]) for n in numbers)), vocabulary, source)


def chunks(split: Split, batch_size: int, length: int) -> list[Split]:
    """Cut a stream into pieces (length, batch_size) for truncated backpropagation through time.

    The stream becomes `batch_size` columns of consecutive tokens (an incomplete last row is
    dropped), and the columns are cut into chunks (the last may be shorter). Column j of a chunk
    continues column j of the chunk before, so the recurrent state can be carried over. The chunks
    are views of the stream.

    Raises:
        ValueError: a size is below 1, or there are fewer tokens than columns.

    Examples:
        >>> stream = pq.data.Split(np.arange(6), np.arange(1, 7))
        >>> for x, y in pq.data.chunks(stream, batch_size=2, length=2):
        ...     print(x.tolist(), y.tolist())
        ...
        [[0, 3], [1, 4]] [[1, 4], [2, 5]]
        [[2, 5]] [[3, 6]]
    """
    batch_size = check_integer("batch_size", batch_size, least=1)
    length = check_integer("length", length, least=1)
    rows = len(split.x) // batch_size
    if not rows:
        raise ValueError(
            f"split must hold at least batch_size={batch_size} tokens and their successors, "
            f"got {len(split.x)}"
        )
    x, y = (a[: rows * batch_size].reshape(batch_size, rows).T for a in split)
    return [Split(x[t : t + length], y[t : t + length]) for t in range(0, rows, length)]


def _language_reference() -> str:
    """The topics, sorted by name. They repeat one another's sections (`compound` contains `if`), so
    each paragraph is kept only once: otherwise the test part would repeat the training part."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileNotFoundError(
            "this Python comes without pydoc_data.topics, the default text; give a path"
        ) from None
    whole = "\n\n".join(topics[name].strip("\n") for name in sorted(topics))
    return "\n\n".join(dict.fromkeys(whole.split("\n\n")))


def _sha256(texts: list[str]) -> str:
    return hashlib.sha256("".join(texts).encode("utf-8")).hexdigest()
