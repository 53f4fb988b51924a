"""Downloads of data on request, by HTTPS only, with known size and checksum.

Nothing else in this package uses the network. What a server sends is checked as it arrives; the
caller decides where it goes, and discards it after an error.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Collection
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from proxquant_np.files import shown


class Download(NamedTuple):
    """A file to download: its address, its size in bytes and its SHA-256."""

    url: str
    size: int
    sha256: str


CIFAR10 = Download(  # its page publishes the MD5, c32a1d4ab5d03f1284b67883e8d87530
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)


class DownloadError(OSError):
    """There is no connection, or the answer is not the file, or it came by anything but HTTPS."""


def fetch(wanted: Download, file: BinaryIO) -> None:
    """Write what is at `wanted.url` to `file`. Redirections are followed to https:// only.

    Raises:
        DownloadError: the server cannot be reached, is silent for half a minute, redirects to
            another protocol or in a circle, or sends anything but those bytes. The content of
            `file` is then arbitrary.
        OSError: `file` cannot be written.
    """
    _fetch(wanted, file, timeout=30.0, schemes={"https"})


def _fetch(wanted: Download, file: BinaryIO, timeout: float, schemes: Collection[str]) -> None:
    from tqdm import tqdm  # here, so that importing the package stays quick

    if not _allowed(wanted.url, schemes):
        raise _failed(wanted, f"must be {' or '.join(schemes)}")
    opener = urllib.request.build_opener(_Redirections(schemes))
    sha256, size = hashlib.sha256(), 0
    bar = tqdm(desc="download", total=wanted.size, unit="B", unit_scale=True, disable=None)
    with bar:
        try:
            answer = opener.open(wanted.url, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:  # the error is also the response, to be closed
                raise _failed(wanted, error) from None
        except (OSError, http.client.HTTPException) as error:
            raise _failed(wanted, getattr(error, "reason", error)) from error
        with answer:
            while size <= wanted.size:
                try:
                    part = answer.read(1 << 16)
                except (OSError, http.client.HTTPException) as error:
                    raise _failed(wanted, error) from error
                if not part:
                    break
                size += len(part)
                sha256.update(part)
                file.write(part)
                bar.update(len(part))
    if size != wanted.size:
        found = "more" if size > wanted.size else f"{size:,}"
        raise _failed(wanted, f"it must have {wanted.size:,} bytes, but has {found}")
    if sha256.hexdigest() != wanted.sha256:
        raise _failed(wanted, f"its SHA-256 must be {wanted.sha256}, but is {sha256.hexdigest()}")


class _Redirections(urllib.request.HTTPRedirectHandler):
    """At most ten, as in the standard library, and only to addresses that are allowed."""

    def __init__(self, schemes: Collection[str]) -> None:
        self.schemes = schemes

    def redirect_request(
        self, request: Any, answer: Any, code: int, message: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        if not _allowed(url, self.schemes):
            message = f"redirects to {url}"
            raise urllib.error.HTTPError(request.full_url, code, message, headers, answer)
        return super().redirect_request(request, answer, code, message, headers, url)


def _allowed(url: str, schemes: Collection[str]) -> bool:
    return urlsplit(url).scheme in schemes


def _failed(wanted: Download, why: Exception | str) -> DownloadError:
    """The error, its message on one line, whatever the server or the system said."""
    return DownloadError(
        f"downloading {wanted.url} failed, nothing is kept: {shown(' '.join(str(why).split()))}"
    )
