"""A sequence file's decompressed bytes, up to their end or to where they break off."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from typing import IO, Any

from metagene_classifier.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["RUBBISH", "AsciiContent", "Content", "decompressed"]


def decompressed(raw: IO[bytes]) -> Any:
    """``raw``, or a reader that decompresses it where its first bytes are those of a compressed file.

    The standard library's readers hand out all that they could decompress before they fail; faster ones (igzip)
    lose up to a buffer of it, and with it whole records before a break.
    """
    start = raw.peek(6)  # type: ignore[attr-defined]
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(b"BZh"):
        return _Bzip2(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        # The widest window there is, for files made with zstd --long.
        return zstd.ZstdFile(raw, options={zstd.DecompressionParameter.window_log_max: 31})
    return raw


class _Bzip2:
    """bzip2 streams, one after another.

    BZ2File asks for input while the block in its memory (900 kB) still has text to give, and loses it at a break.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._stream = bz2.BZ2Decompressor()

    def read1(self, size: int) -> bytes:
        while True:
            data = b"" if self._stream.eof else self._stream.decompress(b"", size)
            if data:
                return data
            more = (self._stream.eof and self._stream.unused_data) or self._raw.read(io.DEFAULT_BUFFER_SIZE)
            if not more:
                if self._stream.eof:
                    return b""
                raise EOFError
            if self._stream.eof:
                self._stream = bz2.BZ2Decompressor()
            if data := self._stream.decompress(more, size):
                return data


class Content(io.RawIOBase):
    """The bytes of ``source``; where they break off the stream ends, and ``failure`` says why.

    An exception would pass through the buffers above and take the records in them along.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self.failure: Exception | None = None

    def readable(self) -> bool:
        """True, as :class:`io.BufferedReader` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from its start; return the number of bytes, 0 at the end."""
        if self.failure is not None:
            return 0
        try:
            data = self._source.read1(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
            self.failure = error
            return 0
        buffer[: len(data)] = data
        return len(data)

    def broken_off(self, name: str, whole_records: int) -> DataError:
        """The error that a user sees, once the whole records before the break have come out."""
        cut = isinstance(self.failure, EOFError)
        what = "compressed data cut short" if cut else f"damaged data ({self.failure})"
        return DataError(f"{name}: {what}; whole records before the break: {whole_records:,}; copy or fetch it again")


class AsciiContent(io.RawIOBase):
    """The bytes of ``source`` with NUL and non-ASCII bytes as SUB (0x1a), and whether there were any.

    dnaio refuses a whole block of FASTQ for one non-ASCII byte in it; so the record that holds it can be named.
    """

    def __init__(self, source: io.BufferedReader[Any]) -> None:
        self._source = source
        self.has_rubbish = False

    def readable(self) -> bool:
        """True, as :class:`io.BufferedReader` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from its start; return the number of bytes, 0 at the end."""
        data = self._source.read1(len(buffer))
        if not data.isascii() or b"\0" in data:
            self.has_rubbish = True
            data = data.translate(_RUBBISH_TO_SUB)
        buffer[: len(data)] = data
        return len(data)


RUBBISH = "\x1a"
_RUBBISH_TO_SUB = bytes(byte if 0 < byte < 128 else ord(RUBBISH) for byte in range(256))
