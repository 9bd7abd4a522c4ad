"""A validation under way: what was found, what was left out, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.text import Text

from gpuconv.backend.device import Device
from gpuconv.cli import output
from gpuconv.cli.output import Failure, Mismatch
from gpuconv.errors import LaunchError
from gpuconv.problem import ConvProblem
from gpuconv.report.records import NO_NUMBER
from gpuconv.report.validated import Checked, Validated

#: Problems of another library's that are told.
_SHOWN: Final = 20
_NOT_FINITE: Final = "not finite"


@dataclass
class Session:
    """A validation under way.

    Attributes
    ----------
    device : Device
        Where it runs.
    seed : int
        Of the operands.
    total : int
        Problems to validate.
    configs : {"default", "all"}
        Which of a kernel's.
    each : bool
        Whether each result gets a row; else they are summed up.
    some : bool
        Whether kernels were named: it is no failure that these do not take a problem.
    as_json : bool
        Whether standard output is for JSON.
    other : str or None
        What it is compared with.
    """

    device: Device
    seed: int
    total: int
    configs: str
    each: bool
    some: bool
    as_json: bool
    other: str | None
    found: list[Validated] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    partial: bool = False

    def add(self, p: ConvProblem, one: Validated) -> None:
        """Keep what was found about a problem."""
        self.found.append(one)
        if not one.checked and not self.some:
            self.missed(p, "; ".join(map(str, one.rejects)))
        for checked in one.checked:
            if checked.failure is not None:
                self.missed(p, f"{checked.kernel}({checked.config}): {checked.failure}")

    def missed(self, p: ConvProblem, reason: str) -> None:
        """Note what was not validated, and why."""
        self.skipped.append({"problem": str(p), "reason": reason})
        output.note(f"{p} is left out: {reason}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Print what there is, however it ends."""
        try:
            yield
        except LaunchError as error:
            self.partial = True
            self._print()
            raise Failure(f"the device is lost: {output.one_line(error)}") from None
        except BaseException:
            self.partial = True
            if self.found or self.as_json:
                self._print()
            raise
        self._print()

    def judge(self) -> None:
        """End with the exit code that the results deserve."""
        wrong = list(self._wrong())
        if wrong:
            results = sum(len(one.checked) for one in self.found)
            one, checked = wrong[0]
            told = _told(one, checked)
            raise Mismatch(f"{len(wrong)} of {results} results are wrong; the first: {told}")
        if self.skipped:
            raise Failure(f"{len(self.skipped)} were not validated")
        if not any(one.checked for one in self.found):
            raise Failure("nothing was validated: the kernels named take none of these problems")

    def _wrong(self) -> Iterator[tuple[Validated, Checked]]:
        return ((one, checked) for one in self.found for checked in one.checked if checked.wrong)

    def _print(self) -> None:
        if self.as_json:
            output.emit("validate", [asdict(one) for one in self.found], **self._about())
            return
        output.show(Text(f"{self.device}, against float64" + f" and {self.other}" * (self.other is not None)))
        if len(self.found) < self.total:
            output.show(Text(f"{len(self.found)} of {self.total} problems"))
        rows = self._each() if self.each else self._summary()
        if rows[1]:
            output.show("", output.table(*rows))
        output.show("", *map(Text, self._beside()))
        for one, checked in self._wrong():
            configs = " --configs all" * (self.configs == "all")
            cpu = " --cpu" * (self.device.kind == "cpu")
            how = f"--kernel {checked.kernel} --seed {self.seed}{configs}{cpu}"
            again = f"gpuconv validate '{one.problem}' {how}"
            output.show(Text(f"wrong: {_told(one, checked)}  # {again}"))

    def _about(self) -> dict[str, object]:
        """What JSON says before the results."""
        return {
            "device": str(self.device),
            "other": self.other,
            "seed": self.seed,
            "configs": self.configs,
            "asked": self.total,
            "done": len(self.found),
            "partial": self.partial,
            "skipped": self.skipped,
        }

    def _each(self) -> tuple[Sequence[str], list[list[str]]]:
        """A row for each result."""
        rows = [
            [
                one.problem,
                checked.kernel,
                checked.config,
                _number(checked.error_over_bound),
                _number(one.beside.error_over_bound if one.beside else None),
                _number(checked.apart),
                _where(one, checked),
            ]
            for one in self.found
            for checked in one.checked
        ]
        return ("problem", "kernel", "config", "err/bound", "other's", "apart", "worst at"), rows

    def _summary(self) -> tuple[Sequence[str], list[list[str]]]:
        """A row for each kernel and operation."""
        groups: dict[tuple[str, str], list[tuple[Validated, Checked]]] = {}
        for one in self.found:
            for checked in one.checked:
                if checked.error_over_bound is not None:
                    groups.setdefault((checked.kernel, one.op), []).append((one, checked))
        rows = []
        for (kernel, op), results in sorted(groups.items()):
            one, worst = max(results, key=lambda result: result[1].error_over_bound or 0)
            apart = [checked.apart for _, checked in results if checked.apart is not None]
            rows.append(
                [
                    kernel,
                    op,
                    str(len(results)),
                    _number(worst.error_over_bound),
                    str(len(apart)),
                    _number(max(apart, default=None)),
                    one.problem,
                ]
            )
        return ("kernel", "op", "results", "err/bound", "compared", "apart", "the worst"), rows

    def _beside(self) -> Iterator[str]:
        """What the other library did."""
        results = [each for one in self.found for each in one.checked if each.error_over_bound is not None]
        within = sum(each.within for each in results)
        yield f"{within} of {len(results)} results are within the bound"
        asked = [one for one in self.found if one.beside is not None]
        computed = [one for one in asked if one.beside and one.beside.error_over_bound is not None]
        if not asked:
            return
        errors = [(one.beside.error_over_bound or 0, one.problem) for one in computed if one.beside]
        worst, problem = max(errors, default=(0.0, ""))
        counted = f"{len(computed)} of {len(asked)} problems"
        yield f"{self.other}: {counted}, at most {_number(worst)} of the bound {problem}".rstrip()
        outside = [one for one in computed if one.beside and one.beside.outside]
        for one in outside[:_SHOWN]:
            assert one.beside is not None
            ways = f"{one.beside.outside} of {one.beside.ways}" * (one.beside.ways > 1)
            error = _number(one.beside.error_over_bound)
            yield f"  outside the bound, {error}: {one.problem} {one.beside.way} {ways}".rstrip()
        if len(outside) > _SHOWN:
            yield f"  and {len(outside) - _SHOWN} more: --json has them all"
        reasons = Counter(one.beside.reason for one in asked if one.beside and one.beside.reason is not None)
        for reason, number in reasons.most_common():
            yield f"  not compared, {number}: {reason}"


def _told(one: Validated, checked: Checked) -> str:
    what = [f"writes to its operand {name}" for name in checked.overwrites]
    if not checked.within and checked.error_over_bound is not None:
        error = _number(checked.error_over_bound)
        error = error if error == _NOT_FINITE else f"{error} of the bound"
        what.insert(0, f"{error} at {_place(checked.worst)}, got {checked.got}, right is {checked.right}")
    return f"{one.problem} {checked.kernel}({checked.config}): {'; '.join(what)}"


def _where(one: Validated, checked: Checked) -> str:
    """The last column of a row."""
    if checked.failure is not None:
        return f"failed: {checked.failure}"
    return _place(checked.worst) + f" of {one.looked_at} seen" * (one.looked_at < one.elements)


def _place(at: Sequence[int]) -> str:
    return f"({', '.join(map(str, at))})" if at else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return _NOT_FINITE if value >= NO_NUMBER else f"{value:.3g}"
