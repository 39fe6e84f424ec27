"""python -m truecl.sim: try seeds, or look at one.

python -m truecl.sim --seeds 0..999            1,000 bad days; prints the seeds that broke a promise
python -m truecl.sim --seed 17 --trace         every event of one
python -m truecl.sim --seed 17 --replay        twice, and compare the histories
python -m truecl.sim --mutants --seeds 0..99   leave each guard out in turn: which seed sees it?
"""

import argparse
import sys
from time import perf_counter

from truecl.sim.mutants import MUTANTS
from truecl.sim.mutants.build import Mutant
from truecl.sim.runner import Result, run
from truecl.sim.sweep import named, results


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: every promise was kept (or every mutant was caught); 1 otherwise; 2: usage."""
    options = _parser().parse_args(arguments)
    mutant = named(options.mutant)
    if options.seed is not None:
        return _one(options, mutant)
    first, last = options.seeds
    seeds = range(first, last + 1)
    if options.mutants:
        return _hunt(seeds, options.nodes, options.jobs)
    return _sweep(seeds, options.nodes, mutant, options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m truecl.sim", description="Simulate truecl clusters on bad days.")
    parser.add_argument("--seed", type=int, help="one seed only")
    parser.add_argument("--seeds", type=_range, default=(0, 199), metavar="A..B", help="all from A to B (0..199)")
    parser.add_argument("--nodes", type=int, choices=range(2, 9), help="2 to 8; drawn per seed by default")
    parser.add_argument("--trace", action="store_true", help="print every event (with --seed)")
    parser.add_argument("--replay", action="store_true", help="run the seed twice and compare the histories")
    parser.add_argument("--mutant", choices=[each.name for each in MUTANTS], help="leave this guard out")
    parser.add_argument("--mutants", action="store_true", help="leave each guard out in turn, until a seed sees it")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    return parser


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not dots or not first.isdigit() or not last.isdigit() or int(first) > int(last):
        raise argparse.ArgumentTypeError(f"{text!r} is not A..B with A <= B")
    return int(first), int(last)


def _one(options: argparse.Namespace, mutant: Mutant | None) -> int:
    trace = _say if options.trace else None
    began = perf_counter()
    chosen = mutant or Mutant("none", "nothing")
    result = run(
        options.seed,
        options.nodes or chosen.nodes,
        chosen.assemble,
        chosen.variant,
        chosen.adjust,
        deep=True,
        trace=trace,
    )
    seconds = perf_counter() - began
    if options.replay and mutant is None:
        again = run(options.seed, options.nodes, deep=True)
        same = again.digest == result.digest
        _say(f"history {result.digest:08x}, again {again.digest:08x}: {'the same' if same else 'NOT THE SAME'}")
        if not same:
            return 1
    _story(result)
    _say(f"seed {result.seed}, {result.nodes} nodes: {result.starts} starts of steps, {result.grants} grants, "
         f"healed after {result.healed_after:.2f} s; {_rate(result.events, seconds)}")  # fmt: skip
    return 1 if result.problem else 0


def _sweep(seeds: range, nodes: int | None, mutant: Mutant | None, jobs: int) -> int:
    began, events, bad, count = perf_counter(), 0, 0, 0
    for result in results(seeds, nodes, mutant.name if mutant else None, jobs):
        count, events = count + 1, events + result.events
        if result.problem:
            bad += 1
            _story(result)
    _say(f"{count} seeds, {bad} broke a promise; {_rate(events, perf_counter() - began)}")
    return 1 if bad else 0


def _hunt(seeds: range, nodes: int | None, jobs: int) -> int:
    missed = 0
    for mutant in MUTANTS:
        began, caught = perf_counter(), None
        for tried, result in enumerate(results(seeds, nodes, mutant.name, jobs), 1):
            if result.problem:
                caught = f"seed {result.seed} ({tried} tried): {result.problem[:100]}"
                break
        missed += caught is None
        _say(f"{mutant.name:36} {perf_counter() - began:6.1f} s  {caught or 'NOT CAUGHT'}")
    return 1 if missed else 0


def _story(result: Result) -> None:
    if result.problem:
        for line in result.last:
            _say(line)
        _say(f"seed {result.seed}, {result.nodes} nodes: {result.problem}")
        _say(f"again: python -m truecl.sim --seed {result.seed} --nodes {result.nodes} --trace")


def _rate(events: int, seconds: float) -> str:
    return f"{events} events, {events / max(seconds, 1e-9):.0f} events/s"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
