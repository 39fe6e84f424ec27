"""Many seeds, in several processes."""

from collections.abc import Iterable, Iterator
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


def simulate(seed: int, nodes: int | None = None, mutant: str | None = None) -> Result:
    """One seed, with a guard left out if it is named."""
    chosen = named(mutant)
    if chosen is None:
        return run(seed, nodes)
    return run(seed, nodes or chosen.nodes, chosen.assemble, chosen.variant, chosen.adjust)


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
