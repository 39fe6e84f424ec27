"""python -m truecl.sim: try seeds, or look at one.

python -m truecl.sim --seeds 0..999            1,000 bad days; prints the seeds that broke a promise
python -m truecl.sim --seed 17 --trace         every event of one
python -m truecl.sim --seed 17 --replay        twice, and compare the histories
python -m truecl.sim --mutants                 leave each rule out in turn: is it seen within its budget of seeds?
"""

import argparse
import os
import sys
from collections import Counter
from time import perf_counter

from truecl.sim.coverage import KINDS
from truecl.sim.mutants import MUTANTS
from truecl.sim.mutants.build import Mutant
from truecl.sim.runner import Result
from truecl.sim.sweep import hunted, named, results, simulate

SEEDS = 0, 199
"""First and last, where nothing is said."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: every promise was kept (or every mutant was caught); 1 otherwise; 2: usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    wrong = _contradiction(options)
    if wrong:
        parser.error(wrong)
    mutant = named(options.mutant)
    if options.mutants:
        return _hunt(options.jobs)
    if options.seed is not None:
        return _one(options, mutant)
    first, last = options.seeds or SEEDS
    seeds = range(first, last + 1)
    return _sweep(seeds, options.nodes, mutant, options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m truecl.sim", description="Simulate truecl clusters on bad days.")
    parser.add_argument("--seed", type=int, help="one seed only")
    parser.add_argument("--seeds", type=_range, metavar="A..B", help="all from A to B (0..199)")
    parser.add_argument("--nodes", type=int, choices=range(2, 9), help="2 to 8; drawn per seed by default")
    parser.add_argument("--trace", action="store_true", help="print every event (with --seed)")
    parser.add_argument("--replay", action="store_true", help="run the seed twice and compare the histories")
    names = [each.name for each in MUTANTS]
    parser.add_argument("--mutant", choices=names, metavar="NAME", help="leave this guard out (docs/simulator.md)")
    parser.add_argument("--mutants", action="store_true", help="leave each guard out in turn, until a seed sees it")
    parser.add_argument("--jobs", type=_jobs, default=os.cpu_count() or 1, help="processes (one for each core)")
    return parser


def _contradiction(options: argparse.Namespace) -> str:
    """What of it would be passed over; '' if nothing."""
    if options.mutants:
        others = (options.seed, options.seeds, options.nodes, options.mutant)
        if options.trace or options.replay or any(each is not None for each in others):
            return "--mutants has seeds and nodes of its own: it goes with --jobs alone"
    elif options.seed is None and (options.trace or options.replay):
        return "--trace and --replay go with --seed"
    elif options.seed is not None and options.seeds is not None:
        return "--seed or --seeds"
    elif options.replay and options.mutant is not None:
        return "--replay goes without --mutant"
    return ""


def _jobs(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _range(text: str) -> tuple[int, int]:
    first, dots, last = text.partition("..")
    if not dots or not first.isdigit() or not last.isdigit() or int(first) > int(last):
        raise argparse.ArgumentTypeError(f"{text!r} is not A..B with A <= B")
    return int(first), int(last)


def _one(options: argparse.Namespace, mutant: Mutant | None) -> int:
    trace = _say if options.trace else None
    began = perf_counter()
    name = mutant.name if mutant is not None else None
    result = simulate(options.seed, options.nodes, name, deep=True, trace=trace)
    seconds = perf_counter() - began
    if options.replay:
        again = simulate(options.seed, options.nodes, deep=True)
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
    met, days = Counter[str](), Counter[str]()
    for result in results(seeds, nodes, mutant.name if mutant else None, jobs):
        count, events = count + 1, events + result.events
        met.update(result.coverage)
        days.update(list(result.coverage))
        if result.problem:
            bad += 1
            _story(result)
    _coverage(met, days)
    _say(f"{count} seeds, {bad} broke a promise; {_rate(events, perf_counter() - began)}")
    return 1 if bad else 0


def _coverage(met: Counter[str], days: Counter[str]) -> None:
    """What these days met: how often, in how many seeds."""
    for kind in KINDS:
        if kind in met:
            _say(f"{met[kind]:9} in {days[kind]:6}  {kind}")
    never = [kind for kind in KINDS if kind not in met]
    if never:
        _say(f"never met: {', '.join(never)}")


def _hunt(jobs: int) -> int:
    missed, tried = 0, [each for each in MUTANTS if not each.seen_by]
    for mutant, result in zip(tried, hunted([each.name for each in tried], jobs), strict=True):
        missed += result is None
        caught = f"seed {result.seed}: {result.problem.splitlines()[0][:90]}" if result else "NOT CAUGHT"
        _say(f"{mutant.breaks:12} {mutant.name:50} {caught} (of {mutant.budget})")
    for mutant in MUTANTS:
        if mutant.seen_by:
            _say(f"{mutant.breaks:12} {mutant.name:50} {mutant.seen_by}")
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
