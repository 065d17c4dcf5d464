"""Media wherever they lie: folders, archives, tables, downloads; nothing leaves its folder, nothing is guessed."""

from __future__ import annotations

import hashlib
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmalign.data import uris
from mmalign.data.uris import MediaStore, split, suffix_of
from tests.unit.data.layouts import hub_image, png, write_arrow, write_parquet


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    """A folder with a picture, alone and in every kind of container."""
    root = tmp_path / "media"
    root.mkdir()
    (root / "a.png").write_bytes(png(10))
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        archive.write(root / "a.png", "in/b.png")
        archive.writestr("../evil.png", png(66))
    for name in ("t.tar", "t.tar.gz"):
        with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(root / "a.png", "in/b.png")
    rows = [{"id": k, "image": hub_image(k), "raw": png(k), "several": [hub_image(k), hub_image(k + 1)]}
            for k in range(40)]  # fmt: skip
    write_parquet(root / "p.parquet", rows, group=16)
    write_arrow(root / "p.arrow", rows)
    return MediaStore(root, cache=tmp_path / "cache")


@pytest.mark.parametrize("uri", ["a.png", "zip://z.zip::in/b.png", "tar://t.tar::in/b.png", "tar://t.tar.gz::in/b.png",
                                 "table://p.parquet::10/image", "table://p.parquet::10/raw",
                                 "table://p.parquet::9/several/1", "table://p.arrow::10/image",
                                 "table://p.arrow::9/several/1"])  # fmt: skip
def test_the_same_bytes_from_everywhere(store: MediaStore, uri: str) -> None:
    file = store.path(uri)
    assert file.suffix == ".png" and file.read_bytes() == png(10)
    assert store.digest(uri) == hashlib.sha256(png(10)).hexdigest()
    assert store.path(uri) == file


def test_tables_are_read_in_any_order(store: MediaStore) -> None:
    for row in (39, 0, 17, 16, 15, 38, 3):
        with store.open(f"table://p.parquet::{row}/raw") as stream:
            assert stream.read() == png(row)


def test_names_inside_archives_never_reach_the_disk(store: MediaStore) -> None:
    file = store.path("zip://z.zip::../evil.png")
    assert file.parent == store.cache and not (store.root.parent / "evil.png").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("../a.png", "leaves the media folder"),
        ("zip://../z.zip::a", "leaves the media folder"),
        ("zip://z.zip::gone.png", "cannot read"),
        ("zip://gone.zip::a", "no such file, and"),
        ("zip://a.png::a", "cannot read"),
        ("tar://t.tar::gone", "cannot read"),
        ("zip://z.zip", "write zip://FILE::MEMBER"),
        ("ftp://x/y", "write zip://FILE::MEMBER"),
        ("table://p.parquet::99/raw", "no row 99"),
        ("table://p.parquet::1/none", "no column 'none'"),
        ("table://p.parquet::1/several/7", "has no 'several/7'"),
        ("table://p.parquet::1/id", "holds no bytes"),
        ("table://p.parquet::x/raw", "must be ROW/COLUMN"),
        ("bytes:0", "its own parquet file"),
        ("https://example.org/a.png", "downloads are off"),
    ],
)
def test_what_cannot_be_opened_says_why(store: MediaStore, uri: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.path(uri)


def test_a_changed_archive_is_read_again(store: MediaStore) -> None:
    uri = "zip://z.zip::in/b.png"
    before = store.path(uri).read_bytes()
    with zipfile.ZipFile(store.root / "z.zip", "w") as archive:
        archive.writestr("in/b.png", png(99) + b"longer")
    assert store.path(uri).read_bytes() != before


def test_downloads_are_opt_in_and_bounded(store: MediaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(store.root))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        open_store = MediaStore(store.root, cache=store.cache, allow_http=True)
        assert open_store.path(f"{address}/a.png").read_bytes() == png(10)
        with pytest.raises(ValueError, match="cannot download"):
            open_store.path(f"{address}/gone.png")
        monkeypatch.setattr(uris, "MAX_BYTES", 20)
        with pytest.raises(ValueError, match="larger than"):
            open_store.path(f"{address}/z.zip?again")
        assert not list((store.cache or Path()).glob(".*"))
    finally:
        server.shutdown()
        server.server_close()


def test_words_of_uris_and_signatures() -> None:
    assert split("a/b.png") == ("", "a/b.png", "")
    assert split("tar:///abs/x.tar::m") == ("tar", "/abs/x.tar", "m")
    heads = {b"\x89PNG\r\n": ".png", b"\xff\xd8\xff\xe0": ".jpg", b"RIFF....WEBPVP8 ": ".webp",
             b"\x00\x00\x00\x18ftypisom": ".mp4", b"hello": ".bin"}  # fmt: skip
    assert {head: suffix_of(head) for head in heads} == heads
