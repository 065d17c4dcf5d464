"""Where media lie: a uri of `mmalign.pref/1` to a file on disk. Needs no torch.

| uri | what it names |
|---|---|
| `pictures/a.png` | a file below the media folder (an absolute path is taken as it is) |
| `zip://videos.zip::a/b.mp4` | a member of a zip archive |
| `tar://part.tar::a/b.png` | a member of a tar archive, compressed or not |
| `table://a.parquet::17/jpg_0` | bytes in row 17, column `jpg_0` of a parquet or arrow file; `/1` picks from a list |
| `bytes:0` | the same for our own parquet files: an element of the row's `media`; readers turn it into `table://` |
| `https://host/a.png` | a download, only where it is allowed |

A relative archive starts from the media folder too. What is not a plain file is copied once into a cache folder
(MMALIGN_CACHE, or ~/.cache/mmalign), under a name made of its hash: no name inside an archive reaches the file system.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from mmalign.data import tables

MAX_BYTES = 2**32
"""Largest single medium copied out of an archive or downloaded: 4 GB."""
TIMEOUT = 30.0
"""Seconds a download may stand still."""
_TAR_LOCK = threading.Lock()
_BLOCK = 1 << 20
_SIGNATURES = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"\x1aE\xdf\xa3", ".webm"),
)


def default_cache() -> Path:
    """The folder of copies: $MMALIGN_CACHE/media or ~/.cache/mmalign/media."""
    chosen = os.environ.get("MMALIGN_CACHE")
    return (Path(chosen) if chosen else Path.home() / ".cache" / "mmalign") / "media"


@dataclass(frozen=True)
class MediaStore:
    """The media of one data set. `root` is the folder that relative uris start from."""

    root: Path
    cache: Path | None = None
    allow_http: bool = False

    def path(self, uri: str) -> Path:
        """A file with the medium; copied into the cache first where it is none yet."""
        if is_plain(uri):
            return self._file(uri)
        folder = self.cache if self.cache is not None else default_cache()
        key = hashlib.sha256(f"{self._stamp(uri)}\x1f{uri}".encode()).hexdigest()[:32]
        known = next(iter(folder.glob(f"{key}.*")), None)
        if known is not None:
            return known
        with self.open(uri) as stream:
            head = stream.read(16)
            suffix = PurePosixPath(uri.partition("?")[0]).suffix.lower()
            suffix = suffix_of(head) if uri.startswith("table://") or not suffix else suffix
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{key}.{os.getpid()}.part"
            try:
                with partial.open("wb") as out:
                    out.write(head)
                    for block in _bounded(stream, uri, already=len(head)):
                        out.write(block)
                return partial.replace(folder / f"{key}{suffix}")
            finally:
                partial.unlink(missing_ok=True)

    def digest(self, uri: str) -> str:
        """The sha256 of a medium, read in blocks."""
        total = hashlib.sha256()
        with self.open(uri) as stream:
            for block in _bounded(stream, uri):
                total.update(block)
        return total.hexdigest()

    @contextmanager
    def open(self, uri: str) -> Iterator[IO[bytes]]:
        """The bytes of a medium as a stream; ValueError says what is missing, and the mend."""
        if uri.startswith(("http://", "https://")):
            with self._download(uri) as stream:
                yield stream
            return
        scheme, archive, member = split(uri)
        if scheme == "":
            file = self._file(uri)
            if not file.is_file():
                raise ValueError(f"{file}: no such file")
            with file.open("rb") as stream:
                yield stream
            return
        place = self._file(archive)
        if not place.is_file():
            raise ValueError(f"{place}: no such file, and {uri!r} lies in it")
        try:
            with _member(scheme, place, member) as stream:
                yield stream
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError) as problem:
            raise ValueError(f"cannot read {uri!r} ({problem}); fetch the archive again") from problem

    def _file(self, name: str) -> Path:
        path = Path(name)
        if path.is_absolute():
            return path
        if ".." in path.parts:
            raise ValueError(
                f"media path {name!r} leaves the media folder: move the file, or name it absolutely"
            )
        return self.root / path

    def _stamp(self, uri: str) -> str:
        """Changes when the archive does, so that an old copy is not taken for a new one."""
        if uri.startswith(("http://", "https://")):
            return ""
        place = self._file(split(uri)[1])
        if not place.is_file():
            raise ValueError(f"{place}: no such file, and {uri!r} lies in it")
        stat = place.stat()
        return f"{place.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"

    @contextmanager
    def _download(self, uri: str) -> Iterator[IO[bytes]]:
        if not self.allow_http:
            raise ValueError(
                f"cannot open {uri!r}: downloads are off; allow them (--allow-http), or download the file and give "
                "its path relative to the media folder"
            )
        try:
            with urllib.request.urlopen(uri, timeout=TIMEOUT) as answer:
                yield answer
        except (urllib.error.URLError, TimeoutError, ConnectionError) as problem:
            raise ValueError(f"cannot download {uri!r} ({problem})") from problem


def resolve(uri: str, root: Path) -> Path:
    """The file a uri names, without downloads; see `MediaStore`."""
    return MediaStore(root).path(uri)


def split(uri: str) -> tuple[str, str, str]:
    """Scheme, archive and member of a uri; a plain path has scheme "" and no member.

    >>> split("zip://a.zip::b/c.png")
    ('zip', 'a.zip', 'b/c.png')
    """
    if uri.startswith("bytes:"):
        raise ValueError(f"{uri!r} has a meaning in its own parquet file only: read that file by mmalign")
    scheme, found, rest = uri.partition("://")
    if not found:
        return "", uri, ""
    archive, colons, member = rest.partition("::")
    if scheme not in ("zip", "tar", "table") or not colons or not archive or not member:
        raise ValueError(
            f"cannot open {uri!r}: write zip://FILE::MEMBER, tar://FILE::MEMBER or table://FILE::ROW/COLUMN, "
            "or download it and give its path relative to the media folder"
        )
    return scheme, archive, member


def suffix_of(head: bytes) -> str:
    """The file name suffix that fits the first bytes of a medium; `.bin` for what is not known."""
    for signature, suffix in _SIGNATURES:
        if head.startswith(signature):
            return suffix
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:8] == b"ftyp":
        return ".mp4"
    return ".bin"


def is_plain(uri: str) -> bool:
    """Whether a uri is a path on disk."""
    return "://" not in uri and not uri.startswith("bytes:")


@contextmanager
def _member(scheme: str, place: Path, member: str) -> Iterator[IO[bytes]]:
    if scheme == "table":
        row, _, column = member.partition("/")
        if not row.isdigit() or not column:
            raise ValueError(f"table member {member!r} must be ROW/COLUMN, e.g. 17/jpg_0")
        yield BytesIO(tables.value(place, int(row), column))
    elif scheme == "zip":
        stat = place.stat()
        with _zip(place, stat.st_mtime_ns, os.getpid()).open(member) as stream:
            yield stream
    else:
        stat = place.stat()
        with _TAR_LOCK:  # the members of a tar share one file position
            archive = _tar(place, stat.st_mtime_ns, os.getpid())
            info = archive.getmember(member)
            found = archive.extractfile(info)
            if found is None or info.size > MAX_BYTES:
                raise KeyError(f"{member!r} is no file, or too large for a single medium")
            content = found.read()
        yield BytesIO(content)


@lru_cache(maxsize=8)
def _zip(place: Path, stamp: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(place)


@lru_cache(maxsize=8)
def _tar(place: Path, stamp: int, process: int) -> tarfile.TarFile:
    return tarfile.open(place)


def _bounded(stream: IO[bytes], uri: str, already: int = 0) -> Iterator[bytes]:
    total = already
    while block := stream.read(_BLOCK):
        total += len(block)
        if total > MAX_BYTES:
            raise ValueError(f"{uri!r} is larger than {MAX_BYTES / 2**30:.0f} GB: that is no single medium")
        yield block
