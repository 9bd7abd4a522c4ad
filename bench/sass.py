"""What a cubin's main loop is made of, read from nvdisasm's text."""

from __future__ import annotations

import re
from collections import Counter
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
_BRANCH = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the branch that goes back to it."""

    instructions: tuple[str, ...]

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
        opcodes = self.opcodes
        return (opcodes["FFMA"] + opcodes["DFMA"] + opcodes["HMMA"]) / len(self.instructions)

    @property
    def wavefronts(self) -> int:
        """Cycles of shared memory for one warp at most: one for each 128 bytes that its lanes name."""
        widths = (re.search(r"\b(?:LDS|STS)\S*?\.(64|128)\b", text) for text in self.instructions)
        quads = {None: 1, "64": 2, "128": 4}
        shared = [text for text in self.instructions if re.search(r"\b(?:LDS|STS)\b", text)]
        wide = [quads[match[1]] for match in widths if match]
        return sum(wide) + len(shared) - len(wide)


def loops(text: str) -> list[Loop]:
    """Every loop of a disassembled kernel; an outer one holds its inner ones."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _INSTRUCTION.match(line):
            instructions.append(found[1])
    bodies = []
    for at, instruction in enumerate(instructions):
        branch = _BRANCH.search(instruction)
        # a branch to itself ends every kernel
        if branch and labels.get(branch[1], at) < at:
            bodies.append(Loop(tuple(instructions[labels[branch[1]] : at + 1])))
    return bodies


def main_loop(text: str) -> Loop:
    """The largest loop.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = loops(text)
    if not found:
        raise ValueError("the kernel has no loop")
    return max(found, key=lambda loop: len(loop.instructions))
