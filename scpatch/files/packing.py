"""Compressed files and module signatures: the forms in which distributions ship modules.

`make modules_install` compresses with gzip, xz or zstd (scripts/Makefile.modinst), and signs before
it compresses (scripts/sign-file.c).
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from scpatch.errors import ScpatchError

LARGEST: Final = 1 << 30
"""No file is unpacked to more bytes, of memory too."""
RATIO: Final = 64
"""Nor to more than this many times its own size, beyond `HARMLESS`: a small damaged or hostile file
could fill the memory. Modules, also with DWARF, shrink to a tenth at most."""
HARMLESS: Final = 64 << 20
_STEP: Final = 4 << 20
"""Bytes that are unpacked at a time."""
_STREAMS: Final = 256
"""One after another. What is left after each is copied, so that many would take long."""
_DICTIONARY: Final = 256 << 20
"""Bytes that the window of an xz stream may take; `xz -9` needs 65 MiB."""

_SIGNATURE = b"~Module signature appended~\n"
_SIGNATURE_INFO = 12
"""The size of struct module_signature (include/linux/module_signature.h) in bytes."""
_PKCS7 = 2
"""Its id_type, the only one that the kernel takes."""


_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""After a first byte of 0x50 to 0x5f: a frame of zstd without content. Source: RFC 8878, 3.1.2."""


class Packing(Enum):
    """How a file is compressed; the value is its first bytes."""

    GZIP = b"\x1f\x8b"
    XZ = b"\xfd7zXZ\0"
    ZSTD = b"\x28\xb5\x2f\xfd"
    BZIP2 = b"BZh"


class _Codec(NamedTuple):
    """The library for a packing."""

    decompressor: Callable[[], Any]
    """One stream: `decompress(data, limit)`, `eof`, `unused_data`; zlib: `unconsumed_tail` too."""
    compress: Callable[[bytes], bytes]


def packing_of(data: memoryview) -> Packing | None:
    """How the file is compressed; None: it is not."""
    start = bytes(data[:6])
    if start[1:4] == _SKIPPABLE and start[0] >> 4 == 5:
        return Packing.ZSTD
    return next((packing for packing in Packing if start.startswith(packing.value)), None)


def unpack(data: memoryview, packing: Packing, name: str) -> memoryview:
    """The content of a compressed file. Raises SCP106 if it is damaged, longer than the limits
    above allow, or if there is no library for it."""
    new_stream = _codec(packing, name).decompressor
    limit = min(LARGEST, max(HARMLESS, RATIO * len(data)))
    content = bytearray()
    rest = data
    for _ in range(_STREAMS):
        stream = new_stream()
        try:
            for piece in _pieces(stream, rest):
                content += piece
                if len(content) > limit:
                    raise _too_long(packing, limit, name)
        except ScpatchError:
            raise
        except Exception as error:  # each library has errors of its own
            raise _error(packing, f", and damaged: {error}", name) from error
        if not stream.eof:
            raise _error(packing, ", and cut off", name)
        if not (rest := memoryview(stream.unused_data)):
            return memoryview(content).toreadonly()
        if packing_of(rest) is not packing:
            raise _error(packing, ", and something follows", name)
    raise _error(packing, f", and made of more than {_STREAMS} streams", name)


def _pieces(stream: Any, data: memoryview) -> Iterator[bytes]:
    """What a stream unpacks, a step at a time. Only zlib's leaves the rest of `data` to us."""
    rest: memoryview | bytes = data
    while not stream.eof and (piece := stream.decompress(rest, _STEP)):
        yield piece
        rest = getattr(stream, "unconsumed_tail", b"")


def _too_long(packing: Packing, limit: int, name: str) -> ScpatchError:
    what = f"compressed with {packing.name.lower()}; its content has more than {limit >> 20} MiB"
    hint = "if you trust the file, unpack it, and name the unpacked one"
    return ScpatchError("SCP106", what, file=name, hint=hint)


def pack(content: bytes, packing: Packing | None, name: str) -> bytes:
    """Compresses as `make modules_install` does. Raises SCP106 if there is no library for it."""
    return content if packing is None else _codec(packing, name).compress(content)


def _error(packing: Packing, what: str, name: str) -> ScpatchError:
    return ScpatchError("SCP106", f"compressed with {packing.name.lower()}{what}", file=name)


def _codec(packing: Packing, name: str) -> _Codec:
    try:
        return _CODECS[packing]()
    except ImportError as error:
        raise _error(packing, f", and there is no Python module {error.name}", name) from error


def _gzip() -> _Codec:
    import gzip
    import zlib

    return _Codec(lambda: zlib.decompressobj(31), lambda content: gzip.compress(content, mtime=0))


def _xz() -> _Codec:
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
    return _Codec(
        lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY),
        lambda content: lzma.compress(content, check=lzma.CHECK_CRC32, filters=filters),
    )


def _zstd() -> _Codec:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return _Codec(zstd.ZstdDecompressor, zstd.compress)


def _bzip2() -> _Codec:
    import bz2

    return _Codec(bz2.BZ2Decompressor, bz2.compress)


_CODECS: Final[Mapping[Packing, Callable[[], _Codec]]] = {
    Packing.GZIP: _gzip,
    Packing.XZ: _xz,
    Packing.ZSTD: _zstd,
    Packing.BZIP2: _bzip2,
}


def signature_size(data: memoryview, name: str) -> int:
    """The number of bytes that a module signature takes at the end of the file: 0 if there is none.

    Raises SCP105 for a signature that is not as mod_check_sig() (kernel/module_signature.c) wants.
    """
    if bytes(data[-len(_SIGNATURE) :]) != _SIGNATURE:
        return 0
    end = len(data) - len(_SIGNATURE)
    info = bytes(data[max(end - _SIGNATURE_INFO, 0) : end])
    size = int.from_bytes(info[8:12], "big") + _SIGNATURE_INFO + len(_SIGNATURE)
    if info[:8] != bytes((0, 0, _PKCS7, 0, 0, 0, 0, 0)) or size >= len(data):
        raise ScpatchError("SCP105", "a module signature of an unknown form", file=name)
    return size
