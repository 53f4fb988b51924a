"""Downloads, from a server on this machine that does everything wrong that a server can do."""

import errno
import hashlib
import io
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from proxquant_np import cli
from proxquant_np.data import download
from proxquant_np.data.download import Download, DownloadError
from proxquant_np.experiments import experiment, resnet_cifar10
from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.training import written_whole

CONTENT = np.random.default_rng(0).bytes(200_000)  # more than one read


class Handler(BaseHTTPRequestHandler):
    """The path says what is wrong; a stalled answer waits until the test is over."""

    def do_GET(self):
        head, _, rest = self.path[1:].partition("/")
        if head == "redirect":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif head == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif head == "missing":
            self.send_error(404)
        elif head == "nonsense":
            self.wfile.write(b"\x00\xff nothing of HTTP\r\n\r\n")
        else:
            self.send_response(200)
            content, length = CONTENT, len(CONTENT)
            if head in ("truncated", "stalled"):
                content = CONTENT[:100_000]
            elif head in ("more", "endless"):
                content, length = CONTENT * 3, len(CONTENT) * 3
            elif head == "short":
                content, length = CONTENT[:-1], len(CONTENT) - 1
            elif head == "corrupt":
                content = CONTENT[:150_000] + bytes([CONTENT[150_000] ^ 1]) + CONTENT[150_001:]
            if head != "endless":
                self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:  # it had heard enough
                return
            if head == "stalled":
                self.server.over.wait(30)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def wanted(url):
    return Download(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def get(url, path):
    with written_whole(path) as file:
        download._fetch(wanted(url), file, timeout=0.2, schemes={"http"})


@pytest.mark.parametrize("way", ["", "redirect//whole", "redirect/{server}/redirect//whole"])
def test_the_whole_file(way, server, tmp_path):
    get(f"{server}/{way.format(server=server)}", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("truncated", "200,000 bytes, but has 100,000|IncompleteRead"),
        ("short", "must have 200,000 bytes, but has 199,999"),
        ("more", "must have 200,000 bytes, but has more"),
        ("endless", "must have 200,000 bytes, but has more"),
        ("corrupt", "SHA-256 must be [0-9a-f]{64}, but is [0-9a-f]{64}"),
        ("stalled", "timed out"),
        ("missing", "HTTP Error 404"),
        ("nonsense", "nothing of HTTP"),
        ("redirect/https://127.0.0.1/", "redirects to https://127.0.0.1/"),
        ("redirect/ftp://127.0.0.1/a", "redirects to ftp://127.0.0.1/a"),
        ("redirect/file:///etc/passwd", "file:///etc/passwd"),
        ("redirect//missing", "HTTP Error 404"),
        ("loop", "infinite loop"),
    ],
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_anything_else(way, says, old, server, tmp_path):
    path = tmp_path / "a"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(DownloadError, match=says) as raised:
        get(f"{server}/{way.format(server=server)}", path)
    assert "\n" not in str(raised.value) and "nothing is kept" in str(raised.value)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == ([("a", old)] if old else [])


def test_https_alone(server, tmp_path):
    with open(tmp_path / "a", "wb") as file:
        with pytest.raises(DownloadError, match=r"a/b failed.*must be https"):
            download.fetch(wanted("http://127.0.0.1/a/b"), file)
        with pytest.raises(DownloadError, match="SSL"):  # the server speaks HTTP
            download.fetch(wanted(server.replace("http:", "https:")), file)
    follow = download._Redirections({"https"}).redirect_request
    request = urllib.request.Request("https://a/b")
    assert follow(request, None, 302, "", {}, "https://c/d").full_url == "https://c/d"
    for elsewhere in ("http://a/b", "HTTP://a/b", "ftp://a/b", "file:///a/b", "//a/b", "a/b", ""):
        with pytest.raises(urllib.error.HTTPError, match="redirects to") as raised:
            follow(request, None, 302, "", {}, elsewhere)
        raised.value.close()  # it is also the answer


@pytest.mark.parametrize("way", ["more", "endless"])
def test_no_more_is_taken_than_was_wanted(way, server):
    file = io.BytesIO()
    with pytest.raises(DownloadError, match="has more"):
        download._fetch(wanted(f"{server}/{way}"), file, timeout=0.2, schemes={"http"})
    assert file.tell() < 1.5 * len(CONTENT)  # of three times that


def test_nobody_there(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(DownloadError, match=r"refused"):
            get(f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_as_such(server):
    class Full:
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as raised:
        download._fetch(wanted(f"{server}/whole"), Full(), timeout=0.2, schemes={"http"})
    assert not isinstance(raised.value, DownloadError)


# The command line --------------------------------------------------------------------------------


@pytest.fixture
def small(server, monkeypatch, tmp_path):
    """The experiment on CIFAR-10 with what this server sends, instead."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        experiment, "fetch", partial(download._fetch, timeout=0.2, schemes={"http"})
    )

    def choose(way):
        chosen = replace(resnet_cifar10.EXPERIMENT, download=wanted(f"{server}/{way}"))
        monkeypatch.setitem(EXPERIMENTS, "resnet_cifar10", chosen)

    return choose


@pytest.mark.parametrize("data", [None, "there.tar.gz"])
def test_download_and_then_read(data, small, tmp_path, capsys):
    small("whole")
    arguments = ["experiment", "resnet_cifar10", "--download", *(["--data", data] if data else [])]
    assert cli.main(arguments) == 2  # the content is random bytes: got, and refused by the reader
    err = capsys.readouterr().err.splitlines()[-1]
    assert f"{data or 'whole'} must be a whole tar or tar.gz" in err
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_bytes()) == (data or "whole", CONTENT)
    small("missing")  # what is there is not got again
    assert cli.main([*arguments[:3], "--data", file.name]) == 2
    assert "must be a whole tar or tar.gz" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["truncated", "corrupt", "stalled", "loop", "more", "missing"])
def test_a_failed_download_is_one_line(way, small, tmp_path, capsys):
    small(way)
    assert cli.main(["experiment", "resnet_cifar10", "--download"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("proxquant-np: downloading http://127") and err[-1] == "\n"
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_got_unasked(small, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "fetch", lambda *a: pytest.fail("it was got"))
    small("whole")
    assert cli.main(["experiment", "resnet_cifar10"]) == 2
    assert "needs --data" in (err := capsys.readouterr().err) and "--download" in err
    assert cli.main(["experiment", "resnet_cifar10", "--data", "none"]) == 2
    assert "none does not exist" in capsys.readouterr().err
    assert cli.main(["experiment", "binary_digits", "--download"]) == 2
    assert "binary_digits has nothing to --download" in capsys.readouterr().err
