"""Seeds faults into the CUDA kernels and their host side, one at a time, and shows that the tests catch them.

``python -m tests.mutation`` takes them all; ``--rotate 12`` takes a dozen, others every day.
"""

from __future__ import annotations

import argparse
import signal
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.mutation.fault import Fault, MutationError, all_faults, named, rotation, today
from tests.mutation.workshop import Verdict, workshop

#: Part of all faults that must be caught.
ENOUGH = 0.95
#: Faults that no test can be expected to catch, and why.
KNOWN_SURVIVORS: dict[str, str] = {}


def main(arguments: list[str] | None = None) -> int:
    """0 if enough is caught, 1 if not, 2 for wrong use or sources that have moved on."""
    options = _options(arguments)
    try:
        faults = _chosen(options)
        if options.list:
            for fault in faults:
                print(f"{fault.name:32} {fault.file}: {fault.why}")
            return 0
        return _run(faults, options.jobs, strict=options.rotate is not None, trust=options.trust)
    except MutationError as error:
        print(f"tests.mutation: {error}", file=sys.stderr)
        return 2


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to try; all without any")
    parser.add_argument("--rotate", type=int, metavar="N", help="so many, chosen by the seed")
    parser.add_argument(
        "--seed", metavar="TEXT", help="a date or any text, like a commit; today's date without"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults tried at the same time")
    parser.add_argument("--list", action="store_true", help="only name the faults")
    parser.add_argument("--trust", action="store_true", help="do not run the tests without a fault first")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> tuple[Fault, ...]:
    faults = all_faults()
    if options.jobs < 1:
        raise MutationError(f"--jobs takes 1 or more, got {options.jobs}")
    if options.seed is not None and options.rotate is None:
        raise MutationError("--seed goes with --rotate")
    if options.rotate is None:
        return named(faults, options.names) if options.names else faults
    if options.names:
        raise MutationError("--rotate chooses the faults: name none")
    seed = today() if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    return rotation(faults, options.rotate, seed)


def _run(faults: tuple[Fault, ...], jobs: int, strict: bool, trust: bool) -> int:
    from tests.mutation.fault import ROOT

    for fault in faults:
        fault.seeded(ROOT)
    tasks: list[Fault | None] = [*([] if trust else [None]), *faults]
    verdicts: list[Verdict] = []
    with workshop(jobs) as shop, ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(shop.judge, task) for task in tasks]):
                verdict = done.result()
                if verdict.name not in {fault.name for fault in faults}:
                    if verdict.result != "SURVIVED":
                        raise MutationError(f"without any fault the tests fail already: {verdict.text}")
                    print(f"without a fault all passes: {verdict.text}, {verdict.seconds:.0f} s", flush=True)
                    continue
                verdicts.append(verdict)
                print(verdict, flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            shop.close()
            raise
    return summary(verdicts, strict)


def summary(verdicts: list[Verdict], strict: bool) -> int:
    """Print what was not caught; 1 if that is too much, or with `strict` if any of it is not known."""
    missed = [verdict.name for verdict in verdicts if verdict.result != "caught"]
    broken = [verdict.name for verdict in verdicts if verdict.result == "BROKEN"]
    caught = len(verdicts) - len(missed)
    print(f"{caught} of {len(verdicts)} caught" + (f"; not: {', '.join(missed)}" if missed else ""))
    for name in missed:
        if name in KNOWN_SURVIVORS:
            print(f"{name} is known to survive: {KNOWN_SURVIVORS[name]}")
    if strict:
        return int(any(name not in KNOWN_SURVIVORS for name in missed))
    return int(bool(broken) or caught < ENOUGH * len(verdicts))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that copies and processes go too
    sys.exit(main())
