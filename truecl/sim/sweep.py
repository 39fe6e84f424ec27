"""Many seeds, in several processes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from truecl.sim.mutants import MUTANTS
from truecl.sim.mutants.build import Mutant
from truecl.sim.runner import Result, run

_CHUNK = 4


def named(name: str | None) -> Mutant | None:
    """None for None. Raises KeyError for a name that no mutant has."""
    if name is None:
        return None
    for mutant in MUTANTS:
        if mutant.name == name:
            return mutant
    raise KeyError(name)


def simulate(
    seed: int,
    nodes: int | None = None,
    mutant: str | None = None,
    deep: bool = False,
    trace: Callable[[str], None] | None = None,
) -> Result:
    """One seed, with a guard left out if it is named. `deep`, `trace`: as in `run`."""
    chosen = named(mutant)
    if chosen is None:
        return run(seed, nodes, deep=deep, trace=trace)
    return run(
        seed, nodes or chosen.nodes, chosen.assemble, chosen.variant, chosen.adjust, bad_day=chosen.bad_day,
        deep=deep, trace=trace, replicated=chosen.replicated,
    )  # fmt: skip


def first_seen(mutant: str, nodes: int | None = None) -> Result | None:
    """The first seed of a mutant's budget that breaks a promise."""
    chosen = named(mutant)
    budget = chosen.budget if chosen is not None else 0
    return next((result for seed in range(budget) if (result := simulate(seed, nodes, mutant)).problem), None)


def hunted(mutants: Iterable[str], jobs: int = 2) -> Iterator[Result | None]:
    """`first_seen` of each, in their order."""
    if jobs <= 1:
        yield from map(first_seen, mutants)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(first_seen, mutants)


def results(
    seeds: Iterable[int], nodes: int | None = None, mutant: str | None = None, jobs: int = 2
) -> Iterator[Result]:
    """In the seeds' order."""
    if jobs <= 1:
        yield from (simulate(seed, nodes, mutant) for seed in seeds)
        return
    # A fresh interpreter each: a fork of one that has threads may never come to itself.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(simulate, nodes=nodes, mutant=mutant), seeds, chunksize=_CHUNK)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
