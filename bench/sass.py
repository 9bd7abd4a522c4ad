"""What a cubin's main loop is made of, read from nvdisasm's text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: What an instruction keeps busy, by the first part of its name; whatever is in no line is "other".
KINDS = {
    "multiply": ("FFMA", "DFMA", "FMUL", "DMUL", "HMMA", "HFMA2"),
    "add": ("FADD", "DADD"),
    "shared": ("LDS", "STS", "LDSM"),
    "global": ("LDG", "STG", "LDGSTS", "LDGDEPBAR", "DEPBAR"),
    "integer": (
        "IADD", "IADD3", "IMAD", "ISETP", "LEA", "LOP3", "PLOP3", "SHF", "SEL", "MOV", "IMNMX", "VIADD",
        "VIMNMX", "IABS", "I2F", "F2I", "PRMT", "R2P", "P2R", "S2R", "CS2R", "UIADD3", "UIMAD", "ULEA",
        "ULOP3", "USHF", "UMOV", "UISETP", "USEL", "R2UR", "BMSK", "SGXT", "POPC", "FLO", "IDP",
    ),
    "control": ("BRA", "BAR", "BSSY", "BSYNC", "WARPSYNC", "NOP", "EXIT", "CALL", "RET"),
}  # fmt: skip
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
_LABEL = re.compile(r"\s*(\.L_\w+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);")
#: Not predicated by the constant false; with the bits of a lane, or the matrices of a warp.
_SHARED = re.compile(
    r"(?!@!U?PT)(?:@\S+\s+)?(?:LDS|STS|LDSM|LDGSTS)\b(?:\S*?\.(64|128|MT?88\.[24])(?=[.\s]))?"
)
_DIVERGES = re.compile(r"@\S+\s+BRA\b")
_BRANCH = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the branch that goes back to it."""

    instructions: tuple[str, ...]
    inner: tuple[Loop, ...] = ()

    @property
    def multiplies(self) -> int:
        """Fused multiply-adds, of whatever kind."""
        opcodes = self.opcodes
        return opcodes["FFMA"] + opcodes["DFMA"] + opcodes["HMMA"]

    @property
    def opcodes(self) -> Counter[str]:
        """How often each instruction occurs, by the first part of its name."""
        words = (text.split() for text in self.instructions)
        return Counter((word[1] if word[0].startswith("@") else word[0]).split(".")[0] for word in words)

    @property
    def kinds(self) -> Counter[str]:
        """The same by `KINDS`."""
        found: Counter[str] = Counter()
        for opcode, count in self.opcodes.items():
            found[_KIND_OF.get(opcode, "other")] += count
        return found

    @property
    def share(self) -> float:
        """Fused multiply-adds among all instructions."""
        return self.multiplies / len(self.instructions)

    @property
    def wavefronts(self) -> int:
        """Cycles of shared memory for one warp at most: one for each 128 bytes that its lanes name."""
        return _wavefronts(self.instructions)

    @property
    def wavefronts_of_some(self) -> int:
        """Those of `wavefronts` that only some threads are for: between a branch and where all meet again."""
        some: list[str] = []
        behind: list[str] | None = None  # a branch that not every thread takes
        for text in self.instructions:
            if _DIVERGES.match(text):
                behind = []
            elif "BSYNC" in text.split()[0]:
                some += behind or []
                behind = None
            elif behind is not None:
                behind.append(text)
        return _wavefronts(some)

    def executed(self, multiplies: float) -> Loop:
        """The loop as it runs: inner loops as often as `multiplies` fused multiply-adds a turn need."""
        inner = [loop for loop in self.inner if loop.multiplies]
        if not inner:
            return self
        own = self.multiplies - sum(loop.multiplies for loop in inner)
        turns = max(1, round((multiplies - own) / sum(loop.multiplies for loop in inner)))
        again = [text for loop in inner for text in loop.instructions] * (turns - 1)
        return Loop((*self.instructions, *again))


def loops(text: str) -> list[Loop]:
    """Every loop of a disassembled kernel; an outer one holds its inner ones."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            instructions.append(found[1])
    spans = []
    for at, instruction in enumerate(instructions):
        branch = _BRANCH.search(instruction)
        # a branch to itself ends every kernel
        if branch and labels.get(branch[1], at) < at:
            spans.append((labels[branch[1]], at + 1))
    made: dict[tuple[int, int], Loop] = {}
    for first, end in sorted(spans, key=lambda span: span[1] - span[0]):
        inside = [span for span in made if first <= span[0] and span[1] <= end]
        nearest = [one for one in inside if not any(_holds(other, one) for other in inside)]
        made[first, end] = Loop(tuple(instructions[first:end]), tuple(made[span] for span in nearest))
    return [made[span] for span in spans]


def _wavefronts(instructions: Iterable[str]) -> int:
    # what never runs fills a gap before asynchronous copies
    shared = [match for text in instructions if (match := _SHARED.match(text))]
    quads = {None: 1, "64": 2, "128": 4, "M88.2": 2, "M88.4": 4, "MT88.2": 2, "MT88.4": 4}
    return sum(quads[match[1]] for match in shared)


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def main_loop(text: str) -> Loop:
    """The largest loop.

    Raises
    ------
    ValueError
        If there is none.
    """
    return max(_some(loops(text)), key=lambda loop: len(loop.instructions))


def busiest_loop(text: str, multiplies: float) -> Loop:
    """The loop that runs, as it runs: of those that multiply, the one with the fewest instructions a turn.

    A kernel may hold a second one for arrays that lie badly.

    Parameters
    ----------
    text : str
    multiplies : float
        Fused multiply-adds of a thread in one turn.

    Raises
    ------
    ValueError
        If there is none.
    """
    whole = [loop for loop in loops(text) if loop.multiplies]
    outer = [loop for loop in whole if not any(loop in other.inner for other in whole)]
    return min((loop.executed(multiplies) for loop in _some(outer)), key=lambda loop: len(loop.instructions))


def _some(found: list[Loop]) -> list[Loop]:
    if not found:
        raise ValueError("the kernel has no loop")
    return found
