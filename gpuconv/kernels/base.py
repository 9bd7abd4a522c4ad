"""The contract of every algorithm, so that one dispatch, one tuner and one store serve CPU and GPU alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, Final, Generic, TypeVar

from gpuconv.backend.device import Device
from gpuconv.config import Config
from gpuconv.errors import Reject
from gpuconv.plan import Plan
from gpuconv.problem import ConvProblem

C = TypeVar("C", bound=Config)
#: A rank on the CPU of what may take a thousand times as long as others: right, but not worth a try.
HOPELESS: Final = -2


class Kernel(ABC, Generic[C]):
    """One algorithm. Stateless: every method depends on its arguments alone."""

    name: ClassVar[str]
    config_type: type[C]
    #: Whether it is made for filters that are products of a column and a row: how fast it is depends on the
    #: numbers in them.
    rank_one_filters: ClassVar[bool] = False

    @abstractmethod
    def check(self, p: ConvProblem, device: Device) -> Reject | None:
        """Return None if `default_config` runs `p` right on `device`, else the reason it does not."""

    @abstractmethod
    def configs(self, p: ConvProblem, device: Device) -> Sequence[C]:
        """Return the parameters worth trying, the most promising first.

        Every one passes `check_config`, the default is among them.
        """

    def identity(self, p: ConvProblem, cfg: C, device: Device) -> Hashable:
        """Return the same for two configs that come to the same plan: one of them is worth a try."""
        return cfg

    @abstractmethod
    def check_config(self, p: ConvProblem, cfg: C, device: Device) -> Reject | None:
        """Return None if `cfg` runs `p` right on `device`; `p` must have passed `check`."""

    @abstractmethod
    def default_config(self, p: ConvProblem, device: Device) -> C:
        """Return parameters that are always legal, in constant time."""

    def candidates(self, p: ConvProblem, device: Device) -> Sequence[C]:
        """Return a few legal configs, the default first, for the heuristic to choose among."""
        return (self.default_config(p, device),)

    def fallback_configs(self, p: ConvProblem, device: Device) -> Sequence[C]:
        """Return legal parameters less demanding than the default, tried in order once that was refused."""
        return ()

    @abstractmethod
    def workspace_bytes(self, p: ConvProblem, cfg: C, device: Device) -> int:
        """Return the most memory a run takes beside its arguments."""

    @abstractmethod
    def bind(self, p: ConvProblem, cfg: C, device: Device) -> Plan:
        """Return a plan; `p` and `cfg` must have passed their checks.

        Raises
        ------
        CompileError, LaunchRefused, MemoryError
            From here or from a run, on a CUDA device: another plan may do. It writes the whole result anew.
        LaunchError
            Alike: the device's context is lost.
        """

    def preference(self, p: ConvProblem, device: Device) -> int:
        """Return this kernel's rank on the CPU for a problem it takes: the highest is chosen untuned."""
        return 0

    def reject(self, reason: str) -> Reject:
        """Name this kernel with a reason."""
        return Reject(self.name, reason)
