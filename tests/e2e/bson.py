"""BSON (bsonspec.org) by hand: enough of it for what a MongoDB driver sends and what Kiln stores.

A document decodes to a Document, which keeps order and repeated keys; one to encode may be a dict as well. int is
encoded as int32 where it fits, Int64 always as int64; types without a counterpart in Python have a small class here.
"""

import dataclasses
import struct

DEPTH_MAX = 200


class Malformed(ValueError):
    """These bytes are no BSON, or hold a type that is not known here."""


class Int64(int):
    """Encoded with 64 bits even where 32 would do."""


@dataclasses.dataclass(frozen=True)
class Binary:
    data: bytes
    subtype: int = 0


@dataclasses.dataclass(frozen=True)
class ObjectId:
    data: bytes


@dataclasses.dataclass(frozen=True)
class DateTime:
    milliseconds: int


@dataclasses.dataclass(frozen=True)
class Timestamp:
    value: int


@dataclasses.dataclass(frozen=True)
class Decimal128:
    data: bytes


@dataclasses.dataclass(frozen=True)
class Regex:
    pattern: str
    options: str


class Document:
    """Pairs in their order. Where a key is repeated, the first one counts."""

    def __init__(self, pairs=()):
        self.pairs = list(pairs.items() if isinstance(pairs, dict) else pairs)

    def __getitem__(self, name):
        for key, value in self.pairs:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name, default=None):
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name):
        return any(key == name for key, _ in self.pairs)

    def __eq__(self, other):
        if isinstance(other, dict):
            other = Document(other)
        return isinstance(other, Document) and self.pairs == other.pairs

    def __repr__(self):
        return "{" + ", ".join(f"{key!r}: {value!r}" for key, value in self.pairs) + "}"

    def keys(self):
        return [key for key, _ in self.pairs]

    def items(self):
        return list(self.pairs)


# --- Encoding ---------------------------------------------------------------------------------------------------------

def encode(document):
    # No generator: it would be one more frame a level, and DEPTH_MAX must fit into Python's 1000.
    body = bytearray()
    for key, value in document.items():
        body += element(key, value)
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def element(key, value):
    kind, payload = encode_value(value)
    return bytes((kind,)) + cstring(key) + payload


def cstring(text):
    raw = text.encode("utf-8")
    if b"\0" in raw:
        raise Malformed(f"NUL inside {text!r}")
    return raw + b"\0"


def string(text):
    raw = text.encode("utf-8")
    return struct.pack("<i", len(raw) + 1) + raw + b"\0"


def encode_value(value):
    # bool is an int to Python, so it comes first.
    match value:
        case None:
            return 0x0A, b""
        case bool():
            return 0x08, bytes((value,))
        case Int64():
            return 0x12, struct.pack("<q", value)
        case int():
            return (0x10, struct.pack("<i", value)) if -2**31 <= value < 2**31 else (0x12, struct.pack("<q", value))
        case float():
            return 0x01, struct.pack("<d", value)
        case str():
            return 0x02, string(value)
        case Document() | dict():
            return 0x03, encode(value)
        case list() | tuple():
            return 0x04, encode(Document((str(at), item) for at, item in enumerate(value)))
        case bytes():
            return encode_value(Binary(value))
        case Binary():
            return 0x05, struct.pack("<iB", len(value.data), value.subtype) + value.data
        case ObjectId():
            return 0x07, value.data
        case DateTime():
            return 0x09, struct.pack("<q", value.milliseconds)
        case Regex():
            return 0x0B, cstring(value.pattern) + cstring(value.options)
        case Timestamp():
            return 0x11, struct.pack("<Q", value.value)
        case Decimal128():
            return 0x13, value.data
    raise TypeError(f"no BSON for {value!r}")


# --- Decoding ---------------------------------------------------------------------------------------------------------

def decode(data):
    """`data` is one document and nothing else."""
    reader = Reader(bytes(data))
    document = reader.document(0)
    if reader.at != len(reader.data):
        raise Malformed(f"{len(reader.data) - reader.at} bytes after the document")
    return document


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count < 0 or count > len(self.data) - self.at:
            raise Malformed(f"{count} bytes are due at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, raw):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"not UTF-8 before {self.at}") from error

    def cstring(self):
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise Malformed(f"a name without end at {self.at}")
        return self.text(self.take(end + 1 - self.at)[:-1])

    def string(self):
        raw = self.take(self.number("<i"))
        if not raw.endswith(b"\0"):
            raise Malformed(f"a string without NUL before {self.at}")
        return self.text(raw[:-1])

    def document(self, depth):
        if depth > DEPTH_MAX:
            raise Malformed(f"more than {DEPTH_MAX} levels")
        start = self.at
        size = self.number("<i")
        if size < 5 or size > len(self.data) - start:
            raise Malformed(f"a document of {size} bytes at {start} of {len(self.data)}")
        pairs = []
        while kind := self.number("<B"):
            key = self.cstring()
            pairs.append((key, self.value(kind, depth)))
        if self.at != start + size:
            raise Malformed(f"a document at {start} says {size} bytes and has {self.at - start}")
        return Document(pairs)

    def value(self, kind, depth):
        match kind:
            case 0x01:
                return self.number("<d")
            case 0x02:
                return self.string()
            case 0x03:
                return self.document(depth + 1)
            case 0x04:
                return [item for _, item in self.document(depth + 1).pairs]
            case 0x05:
                size, subtype = self.number("<i"), self.number("<B")
                return Binary(self.take(size), subtype)
            case 0x07:
                return ObjectId(self.take(12))
            case 0x08:
                flag = self.number("<B")
                if flag > 1:
                    raise Malformed(f"a bool of {flag} before {self.at}")
                return bool(flag)
            case 0x09:
                return DateTime(self.number("<q"))
            case 0x0A:
                return None
            case 0x0B:
                return Regex(self.cstring(), self.cstring())
            case 0x10:
                return self.number("<i")
            case 0x11:
                return Timestamp(self.number("<Q"))
            case 0x12:
                return Int64(self.number("<q"))
            case 0x13:
                return Decimal128(self.take(16))
        raise Malformed(f"type {kind:#04x} before {self.at}")
