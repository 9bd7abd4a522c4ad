"""Tile parameters: frozen, printable, parseable; one spelling in Python, in text and as a ``-D``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Self, TypeVar

C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """Base of every kernel's parameters; all fields are integers.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Tile(Config):
    ...     block_m: int = 128
    ...     stages: int = 2
    >>> str(Tile(stages=3))
    'block_m=128,stages=3'
    >>> Tile.parse("stages=3").defines()
    {'BLOCK_M': 128, 'STAGES': 3}
    """

    def __str__(self) -> str:
        return ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    def but(self, **values: int) -> Self:
        """The same with other values for some parameters."""
        found: Self = _but(self, tuple(values.items()))
        return found

    def defines(self) -> dict[str, int]:
        """The parameters as preprocessor definitions."""
        return {field.name.upper(): getattr(self, field.name) for field in fields(self)}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name=value,…``; names left out keep their defaults.

        Raises
        ------
        ValueError
            For an unknown name or a value that is not an integer.
        """
        names = [field.name for field in fields(cls)]
        values: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in names or not value.removeprefix("-").isdecimal():
                raise ValueError(f"config must be integers for {', '.join(names)}, got {part!r}")
            values[name] = int(value)
        return cls(**values)


@lru_cache(8192)  # a choice weighs many, and the next choice the same again
def _but(config: C, values: tuple[tuple[str, int], ...]) -> C:
    return replace(config, **dict(values))
