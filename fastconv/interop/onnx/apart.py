"""Long weights stay in an ONNX file while the rest of it is parsed, and are then read where they are to be.

The onnx package parses bytes, and what it makes holds them again: a file of weights would be in memory three times before
the first of them is a parameter. So the long ``raw_data`` of initialisers are left out of the bytes that are parsed. What a
file means is the package's to say: here its records are only stepped over, and whatever is unusual is left to the package.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import numpy as np

LONG = 16 << 10  # bytes of a tensor's data from which they are left in the file
WINDOW = 1 << 14  # bytes read at a time on the way
VARINT, FIXED64, RECORD, FIXED32 = 0, 1, 2, 5  # how protobuf writes a field
GRAPH, INITIALIZER = 7, 5  # numbers of fields: of ModelProto, of GraphProto
RAW_DATA, EXTERNAL_DATA, DATA_LOCATION, NAME = 9, 13, 14, 8  # of TensorProto
SIZES = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """A field of a message: its number, how it is written, its first byte, that of its value, and where it ends."""

    number: int
    kind: int
    begin: int
    value: int
    end: int


class Unusual(Exception):
    """A file that is read whole."""


class Records:
    """The fields of a file's messages. Reads little of what it steps over."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size = file, size
        self.start, self.window = 0, b""

    def bytes(self, begin: int, end: int) -> bytes:
        self.file.seek(begin)
        found = self.file.read(end - begin)
        if len(found) < end - begin:
            raise Unusual
        return found

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number, and where it ends."""
        value = 0
        for shift in range(0, 64, 7):
            if at >= end:
                raise Unusual
            if not self.start <= at < self.start + len(self.window):
                self.start, self.window = at, self.bytes(at, min(at + WINDOW, self.size))
            byte = self.window[at - self.start]
            value |= (byte & 127) << shift
            at += 1
            if byte < 128:
                return value, at
        raise Unusual

    def fields(self, at: int, end: int):
        while at < end:
            begin = at
            tag, at = self.varint(at, end)
            number, kind = tag >> 3, tag & 7
            value = at
            if kind == VARINT:
                _, at = self.varint(at, end)
            elif kind == RECORD:
                length, value = self.varint(at, end)
                at = value + length
            elif kind in SIZES:
                at += SIZES[kind]
            else:
                raise Unusual
            if at > end or not number:
                raise Unusual
            yield Field(number, kind, begin, value, at)


class Apart:
    """An open file, and where in it the data of long initialisers lie.

    Attributes
    ----------
    places : dict from an initialiser's name to (first byte, bytes)
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.places: dict[str, tuple[int, int]] = {}

    def rest(self, size: int) -> bytes:
        """What is left to be parsed of a file of so many bytes."""
        if size >= LONG:
            try:
                return self._model(Records(self.file, size))
            except Unusual:
                self.places.clear()
        self.file.seek(0)
        return self.file.read()

    def _model(self, records: Records) -> bytes:
        parts = []
        for field in records.fields(0, records.size):
            if (field.number, field.kind) == (GRAPH, RECORD):
                parts.append(record(GRAPH, self._graph(records, field)))
            else:
                parts.append(records.bytes(field.begin, field.end))
        return b"".join(parts)

    def _graph(self, records: Records, graph: Field) -> bytes:
        parts, begin = [], graph.value
        for field in records.fields(graph.value, graph.end):
            if (field.number, field.kind) == (INITIALIZER, RECORD) and field.end - field.value >= LONG:
                parts.append(records.bytes(begin, field.begin))
                begin = field.end
                parts.append(record(INITIALIZER, self._tensor(records, field)))
        parts.append(records.bytes(begin, graph.end))
        return b"".join(parts)

    def _tensor(self, records: Records, tensor: Field) -> bytes:
        """A tensor without its data, where those are as usual; its name then has a place."""
        fields = list(records.fields(tensor.value, tensor.end))
        raw = [f for f in fields if f.number == RAW_DATA]
        names = [f for f in fields if f.number == NAME]
        plain = len(raw) == len(names) == 1 and raw[0].kind == names[0].kind == RECORD and \
            not any(f.number in (EXTERNAL_DATA, DATA_LOCATION) for f in fields)
        if not plain or raw[0].end - raw[0].value < LONG or names[0].end - names[0].value > LONG:
            return records.bytes(tensor.value, tensor.end)
        try:
            name = records.bytes(names[0].value, names[0].end).decode()
        except UnicodeDecodeError:
            raise Unusual from None
        if name in self.places:
            raise Unusual
        self.places[name] = raw[0].value, raw[0].end - raw[0].value
        return records.bytes(tensor.value, raw[0].begin) + records.bytes(raw[0].end, tensor.end)

    def read(self, name: str) -> np.ndarray:
        """The data of an initialiser that has a place, as new bytes.

        Raises
        ------
        ValueError
            Where the file has become shorter.
        """
        begin, length = self.places[name]
        array = np.empty(length, np.uint8)
        self.file.seek(begin)
        view = array.data
        while view:
            found = self.file.readinto(view)  # type: ignore[attr-defined]
            if not found:
                raise ValueError(f"tensor {name!r}: the file ends before its data do")
            view = view[found:]
        return array


def record(number: int, data: bytes) -> bytes:
    """A field that holds bytes, as it is written."""
    length, size = len(data), bytearray([number << 3 | RECORD])
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes(size) + data
