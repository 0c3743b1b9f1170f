import hashlib
import http.server
import threading
from contextlib import contextmanager
from typing import ClassVar

import pytest

from ganglion.data import files
from ganglion.data.files import DataFile, locate, search_folders
from ganglion.errors import DataError, NotFoundError

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    replies: ClassVar = {}  # path: (status, announced length, body)

    def do_GET(self):
        status, length, body = self.replies.get(self.path, (404, 0, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def serving(replies):
    handler = type("Replies", (Handler,), {"replies": replies})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def whole(body=CONTENT):
    return 200, len(body), body


def record(*urls, content=CONTENT):
    return DataFile("set", "x.bin", len(content), hashlib.sha256(content).hexdigest(), urls)


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GANGLION_DATA", raising=False)


@pytest.fixture
def cached(tmp_path):
    """Where a download goes."""
    return tmp_path / "cache" / "datasets" / "set" / "x.bin"


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_download_is_checked_and_gets_its_name(cached):
    with serving({"/x.bin": whole()}) as base:
        path = locate(record(base + "/x.bin"))
    assert path == cached
    assert path.read_bytes() == CONTENT
    assert [p.name for p in cached.parent.iterdir()] == ["x.bin"]


def test_a_file_in_the_cache_is_not_downloaded_again(cached):
    put(cached)
    assert locate(record("http://127.0.0.1:1/none")) == cached


def test_the_second_address_serves_when_the_first_fails(cached):
    with serving({"/good": whole()}) as base:
        assert locate(record(base + "/bad", base + "/good")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (whole(CONTENT[:-1]), "truncated"),
        ((200, len(CONTENT), CONTENT[:1000]), "truncated"),  # the connection breaks
        (whole(b"\1" + CONTENT[1:]), "wrong"),
        (whole(CONTENT + b"more"), "wrong"),
        ((503, 0, b""), "503"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(cached, reply, words):
    with serving({"/x.bin": reply}) as base, pytest.raises(NotFoundError) as caught:
        locate(record(base + "/x.bin"))
    assert words in str(caught.value)
    assert "GANGLION_DATA" in str(caught.value)
    assert list(cached.parent.iterdir()) == []


def test_an_unreachable_server_is_named_with_the_remedy(cached):
    with pytest.raises(
        NotFoundError, match=r"set/x\.bin could not be downloaded .*127.0.0.1:1"
    ) as e:
        locate(record("http://127.0.0.1:1/x.bin"))
    assert str(cached) in str(e.value)


def test_no_download_without_leave(cached):
    with serving({"/x.bin": whole()}) as base, pytest.raises(NotFoundError, match="None of these"):
        locate(record(base + "/x.bin"), download=False)
    assert not cached.exists()


@pytest.mark.parametrize(
    ("content", "kind"), [(CONTENT[:-5], "truncated"), (b"?" + CONTENT[1:], "wrong")]
)
def test_a_damaged_local_file_is_an_error_and_not_replaced(cached, content, kind):
    put(cached, content)
    file = record("http://127.0.0.1:1/x.bin")
    with pytest.raises(DataError) as caught:
        locate(file)
    message = str(caught.value)
    for part in (str(cached), kind, f"{file.size:,}", f"{len(content):,}", file.sha256):
        assert part in message
    assert hashlib.sha256(content).hexdigest() in message
    assert "Delete it" in message
    assert cached.read_bytes() == content


def test_places_are_searched_in_order(monkeypatch, tmp_path, cached):
    monkeypatch.setenv("GANGLION_DATA", str(tmp_path / "local"))
    root, local = tmp_path / "root" / "set" / "x.bin", tmp_path / "local" / "set" / "x.bin"
    for path in (cached, local, root):
        put(path)
        assert locate(record(), tmp_path / "root") == path
    assert locate(record()) == local


def test_a_root_receives_downloads(tmp_path):
    with serving({"/x.bin": whole()}) as base:
        path = locate(record(base + "/x.bin"), tmp_path / "root")
    assert path == tmp_path / "root" / "set" / "x.bin"


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert search_folders("set", "~/here")[0] == tmp_path / "here" / "set"


def test_a_terminal_sees_progress(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with serving({"/x.bin": whole()}) as base:
        locate(record(base + "/x.bin"))
    assert "Downloading set/x.bin" in capsys.readouterr().err


def test_without_a_terminal_there_is_silence(capsys):
    with serving({"/x.bin": whole()}) as base:
        locate(record(base + "/x.bin"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("table", [files.MNIST, files.FASHION_MNIST])
def test_the_tables_describe_the_official_files(table, data_root):
    for file in table.values():
        path = data_root / file.folder / file.name
        files.verify(path, file)
        assert all(url.endswith("/" + file.name) for url in file.urls)
