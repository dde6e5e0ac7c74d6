"""The header of a GGUF file, read with every length held against the size of the file.

gguf's own reader takes the lengths in a header at their word: an array said to have 2^60 elements
fills the memory. So a file is walked here first, and only then handed on.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tappa_theory.errors import InputError

FRESH_COPY = "give a complete GGUF file (fetch it again)"
SCALARS = "BbHhIif?xxQqd"
"""struct's letter of each value type by its number; 8 is a string and 9 an array."""
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 1 << 22
"""Elements of all arrays in the metadata: gguf makes a Python object of each of them.

The largest vocabularies in use need a third of it.
"""


@dataclass(frozen=True)
class GGUFTensor:
    """Name, type ("Q4_1", ...) and number of elements of a tensor in the file."""

    name: str
    type: str
    elements: int


@dataclass(frozen=True)
class GGUFHeader:
    """Metadata that are one string or number, by key, and the table of tensors."""

    metadata: dict[str, Any]
    tensors: tuple[GGUFTensor, ...]

    @property
    def architecture(self) -> str | None:
        return self.text("general.architecture")

    def text(self, key: str) -> str | None:
        """A metadata string, None where there is none."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


def read_header(path: Path, given: str) -> GGUFHeader:
    """Header of a GGUF file of version 2 or 3, in a time and memory that its tables need.

    Raises InputError if the file ends before a table or a tensor does, if a table contradicts
    itself, or if a tensor's type is unknown to the installed gguf.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _Walk(data, given).header()
    except InputError:  # a ValueError as well, with its message complete
        raise
    except (ValueError, struct.error) as error:
        raise InputError(
            f"{given}: truncated or corrupt GGUF file ({error}); {FRESH_COPY}"
        ) from error
    except OSError as error:
        raise InputError(f"{given}: cannot be read ({error.strerror}); check the path") from error


class _Walk:
    """A position in the file that moves on with everything read, and never beyond the end."""

    def __init__(self, data: mmap.mmap, given: str) -> None:
        self.data = data
        self.given = given
        self.position = 8  # magic and version
        self.elements = 0

    def header(self) -> GGUFHeader:
        tensor_count, entries = self.numbers("QQ")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self.string()
            (kind,) = self.numbers("I")
            value = self.value(kind, key)
            if value is not None:
                metadata[key] = value
        table = [self.tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"alignment {alignment}")
        start = -(-self.position // alignment) * alignment
        end = max((start + offset + size for _, offset, size in table), default=0)
        if end > len(self.data):
            raise InputError(
                f"{self.given}: truncated GGUF file, {len(self.data)} of {end} bytes; {FRESH_COPY}"
            )
        return GGUFHeader(metadata, tuple(tensor for tensor, _, _ in table))

    def take(self, size: int) -> int:
        """Move on by `size` bytes; the position before. ValueError beyond the end of the file."""
        before = self.position
        if size > len(self.data) - before:
            raise ValueError(f"{size} bytes are announced at byte {before} of {len(self.data)}")
        self.position = before + size
        return before

    def numbers(self, letters: str) -> tuple[Any, ...]:
        form = f"<{letters}"
        return struct.unpack_from(form, self.data, self.take(struct.calcsize(form)))

    def string(self) -> str:
        (size,) = self.numbers("Q")
        before = self.take(size)
        return self.data[before : self.position].decode("utf-8")

    def value(self, kind: int, key: str) -> Any | None:
        """One metadata value; None for an array, which is only passed over."""
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.numbers(self.letter(kind, key))[0]
        kind, count = self.numbers("IQ")
        self.elements += count
        if self.elements > MAX_ELEMENTS:
            raise ValueError(f"{key!r} has {count} elements")
        if kind == STRING:
            for _ in range(count):
                (size,) = self.numbers("Q")
                self.take(size)
        else:
            self.take(count * struct.calcsize(self.letter(kind, key)))
        return None

    def letter(self, kind: int, key: str) -> str:
        if kind >= len(SCALARS) or kind in (STRING, ARRAY):
            raise ValueError(f"{key!r} is of the unknown type {kind}")
        return SCALARS[kind]

    def tensor(self) -> tuple[GGUFTensor, int, int]:
        """A tensor of the table, its offset in the data and its size, both in bytes."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name = self.string()
        (count,) = self.numbers("I")
        if not 1 <= count <= MAX_DIMENSIONS:
            raise ValueError(f"{name!r} has {count} dimensions")
        shape = self.numbers("Q" * count)
        number, offset = self.numbers("IQ")
        try:
            kind = GGMLQuantizationType(number)
            block, block_bytes = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{self.given}: {name!r} is of type {number}, which the installed gguf does not "
                "know; fetch the file again, or update gguf"
            ) from error
        elements = math.prod(shape)
        if elements == 0 or shape[0] % block:
            raise ValueError(f"{name!r} has the shape {shape}")
        return GGUFTensor(name, kind.name, elements), offset, elements // block * block_bytes
