"""What decoders are fed: valid bytes with things done to them, bytes that look valid, and texts that are traps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from hypothesis import strategies as st

#: Numbers that lengths, counts and sizes go wrong at.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
#: Deeper than a parser that calls itself can go.
DEEP = b"[" * 3000
#: A list of lists of lists: 2 to the power of 40 values, for whoever prints it.
ALIASES = b"b0: &b0 [y, y]\n" + b"".join(b"b%d: &b%d [*b%d, *b%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40))
#: Texts, each small, and large, deep or not what it seems to whoever takes it at its word.
TRAPS = (
    DEEP,
    b"{a: " * 3000,
    b"- " * 3000,
    b'{"a":' * 3000,
    ALIASES,
    b"!!python/object/apply:os.system ['exit 1']",
    b"!!python/name:os.system",
    b"9" * 5000,
    b"1e999",
    b".inf",
    b"2001-99-99",
    b"? {a: b}\n: c",
    b"\xef\xbb\xbf\x00\xff",
)


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], most: int = 6, head: int = 1 << 30) -> bytes:
    """One of the seeds after up to ``most`` changes; three quarters of them within its first ``head`` bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, most))):
        end = len(data) if draw(st.integers(0, 3)) == 0 else min(len(data), head)
        position = draw(st.integers(0, max(0, end - 1)))
        match draw(st.integers(0, 7)):
            case 0:
                data[position : position + 1] = bytes([draw(st.integers(0, 255))])
            case 1 if position < len(data):
                data[position] ^= 1 << draw(st.integers(0, 7))
            case 2:
                data = data[:position]
            case 3:
                data[position:position] = draw(st.binary(max_size=16))
            case 4:
                del data[position : position + draw(st.integers(1, 64))]
            case 5:
                number = draw(st.sampled_from(EDGES))
                data[position : position + 4] = struct.pack(draw(st.sampled_from(["<I", ">I"])), number)
            case 6:
                piece = data[position : position + draw(st.integers(1, 64))]
                data[position:position] = piece * draw(st.integers(1, 20))
            case 7:
                other = draw(st.sampled_from(seeds))
                data = data[:position] + other[draw(st.integers(0, max(0, len(other) - 1))) :]
    return bytes(data)


@st.composite
def png_with_right_checksums(draw: st.DrawFn, seed: bytes) -> bytes:
    """A PNG whose chunks have been changed, doubled or left out, and whose checksums are right all the same."""
    chunks, position = [], 8
    while position < len(seed):
        length, name = struct.unpack_from(">I4s", seed, position)
        chunks.append((name, seed[position + 8 : position + 8 + length]))
        position += 12 + length
    out = bytearray(seed[:8])
    for name, content in chunks:
        if draw(st.booleans()):
            content = draw(mutated([content or b"\0"], 3, 16))
        for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
            checksum = zlib.crc32(name + content)
            out += struct.pack(">I4s", len(content), name) + content + struct.pack(">I", checksum)
    return bytes(out)


@st.composite
def image_messages(draw: st.DrawFn, encodings: Sequence[str]) -> bytes:
    """A serialised sensor_msgs/Image of either byte order whose fields contradict each other, or don't."""
    order = draw(st.sampled_from("<>"))
    number = st.integers(0, 20) | st.sampled_from(EDGES)
    encoding = draw(st.sampled_from(encodings) | st.text(max_size=8)).encode() + b"\0"
    height, width, step = draw(number), draw(number), draw(number)
    data = draw(st.binary(max_size=64))
    if draw(st.booleans()) and step * height <= 1000:
        data = data.ljust(step * height, b"\x55")[: step * height]
    length = len(data) if draw(st.integers(0, 3)) else draw(number)
    frame = draw(st.binary(max_size=8))
    out = struct.pack(f"{order}iII", draw(st.integers(-(2**31), 2**31 - 1)), draw(number), len(frame)) + frame
    out += bytes(-len(out) % 4) + struct.pack(f"{order}III", height, width, len(encoding)) + encoding
    out += bytes([draw(st.integers(0, 255))])
    out += bytes(-len(out) % 4) + struct.pack(f"{order}II", step, length) + data
    return (b"\0\1\0\0" if order == "<" else b"\0\0\0\0") + out


def traps(seeds: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Texts: the seeds changed, with a trap put into them, and traps alone."""
    encoded = [seed.encode() for seed in seeds]

    @st.composite
    def with_trap(draw: st.DrawFn) -> bytes:
        seed = draw(st.sampled_from(encoded))
        position = draw(st.sampled_from([0, len(seed), *(i + 1 for i, byte in enumerate(seed) if byte in b': \n[,{"')]))
        end = draw(
            st.sampled_from([position, *(i for i, byte in enumerate(seed) if byte in b"\n,}]" and i >= position)])
        )
        return seed[:position] + draw(st.sampled_from(TRAPS)) + seed[end:]

    return mutated(encoded) | with_trap() | st.sampled_from(TRAPS)
