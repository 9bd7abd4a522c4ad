"""Real layers of every family, few enough for minutes; and tiny ones for a dry run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench import first
from gpuconv.families import family
from gpuconv.problem import OPS, ConvProblem
from gpuconv.report import shapes

BATCH = 32
#: Layers of each family, operation and dtype, from the least work to the most.
EACH = 4
#: FLOPs beyond which one problem takes too much of a call's time.
MOST_FLOPS = 10**11
#: Bytes of all arrays, so that making them on the host takes seconds.
MOST_BYTES = 2 * 10**9
DRY = (
    "fprop_n1c1h64w64k1r3s3p1_nchw_f32",
    "fprop_n1c16h12w12k16r3s3p1g16_nhwc_f32",
    "dgrad_n2c8h10w12k16r3s3p1_nhwc_f32",
    "wgrad_n2c3h16w16k8r3s3u2p1_nchw_f32",
)


def problems(dry_run: bool) -> list[ConvProblem]:
    """What nobody has timed yet, then one of each family, then the second: so a short time shows all.

    Those of a dtype that NumPy lacks are among them: whoever runs one says that it was left out, and why.
    """
    if dry_run:
        return [ConvProblem.parse(text) for text in DRY]
    groups: dict[tuple[str, ...], list[ConvProblem]] = {}
    for p in _candidates():
        if p.flops <= MOST_FLOPS and p.min_bytes <= MOST_BYTES:
            groups.setdefault(_kind(p), []).append(p)
    chosen = [_spread(sorted(group, key=lambda p: p.flops)) for group in groups.values()]
    # not in a dry run: a CPU's memory does not hold it and what checking it takes
    chosen.append([shapes.huge()])
    turns = [[group[turn] for group in chosen if turn < len(group)] for turn in range(EACH)]
    return list(dict.fromkeys([*first.problems(), *(p for turn in turns for p in turn)]))


def cluster(p: ConvProblem) -> str:
    """What is likely to fail for the same reason."""
    return f"{p.op} {p.dtype} {family(p)}"


def _candidates() -> Iterator[ConvProblem]:
    """What tables have, in the layouts and dtypes that are used."""
    for dtype, layout, ops in (
        ("bf16", "nhwc", OPS),
        ("f16", "nhwc", OPS),
        ("f16", "nchw", OPS),
        ("f32", "nhwc", OPS),
        ("f32", "nchw", ("fprop",)),
    ):
        for op in ops:
            yield from shapes.choose(ops=(op,), dtypes=(dtype,), layouts=(layout,), batch=BATCH, every=True)
            images = shapes.choose(
                ops=(op,), dtypes=(dtype,), layouts=(layout,), batch=1, only=("image4k-*",)
            )
            if layout == "nchw":
                yield from images
    for precision in ("tf32", "tf32x3"):
        yield from shapes.choose(
            ops=OPS,
            dtypes=("f32",),
            layouts=("nhwc",),
            families=("tf32",),
            batch=BATCH,
            every=True,
            precision=precision,
        )


def _kind(p: ConvProblem) -> tuple[str, ...]:
    """What a few are taken of; one rounding of float32 says nothing of another."""
    return p.op, p.dtype, family(p), p.precision


def _spread(group: list[ConvProblem]) -> list[ConvProblem]:
    """The middle one first, then others evenly from the rest."""
    if len(group) <= 1:
        return group
    middle = len(group) // 2
    others = [group[at * (len(group) - 1) // max(1, EACH - 2)] for at in range(EACH - 1)]
    return list(dict.fromkeys([group[middle], *others]))


def limited(found: Iterable[ConvProblem], each: int) -> list[ConvProblem]:
    """The first few of each family, operation, dtype and precision; none is huge, which hosts must hold."""
    counts: dict[tuple[str, ...], int] = {}
    kept = []
    for p in found:
        key = _kind(p)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= each and family(p) != "huge":
            kept.append(p)
    return kept
