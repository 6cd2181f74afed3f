"""FASTA files of a few bases: plain, gzip and bgzip."""

import struct
import zlib


def fasta_text(width=10, **sequences):
    wrapped = {
        name: "\n".join(s[i : i + width] for i in range(0, len(s), width)) for name, s in sequences.items()
    }
    return "".join(f">{name} of test\n{text}\n" for name, text in wrapped.items())


def write_fasta(path, width=10, **sequences):
    path.write_text(fasta_text(width, **sequences))
    return path


def write_bgzip(path, text, block=65_280):
    """Write BGZF blocks of some bytes and the empty one that ends a file."""

    def packed(data):
        body = zlib.compress(data, wbits=-15)
        head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff\x06\x00BC\x02\x00" + struct.pack("<H", len(body) + 25)
        return head + body + struct.pack("<II", zlib.crc32(data), len(data))

    data = text.encode()
    path.write_bytes(b"".join(packed(data[i : i + block]) for i in range(0, len(data), block)) + packed(b""))
    return path
