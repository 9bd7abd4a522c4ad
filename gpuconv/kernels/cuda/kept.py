"""A property computed once for each object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class kept(Generic[T]):
    """As `functools.cached_property`, which before Python 3.12 spends longer on a lock than these take.

    Two threads may both compute it; what they find is the same.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name = compute, compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, found: None, owner: type) -> Self: ...
    @overload
    def __get__(self, found: object, owner: type) -> T: ...
    def __get__(self, found: object | None, owner: type) -> Self | T:
        if found is None:
            return self
        value = self._compute(found)
        found.__dict__[self._name] = value  # where the next look-up finds it first
        return value
