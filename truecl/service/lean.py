"""What Twisted imports and no daemon uses is stood in for while the warm parent imports Twisted: every node carries it.

Twisted takes three names from asyncio, for type hints and for coroutines, and http.cookiejar for an alias of old. The
two bring 48 modules along (concurrent.futures, http.client, urllib.request, tempfile and more): 3.4 MB of the parent.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def spared() -> Iterator[None]:
    """Whoever imports one of the two meanwhile gets the stand-in, later the real one. What is there already stays."""
    asyncio, cookiejar = ModuleType("asyncio"), ModuleType("http.cookiejar")
    vars(asyncio).update(AbstractEventLoop=object, Future=object, iscoroutine=inspect.iscoroutine)
    standing = [each for each in (asyncio, cookiejar) if sys.modules.setdefault(each.__name__, each) is each]
    try:
        yield
    finally:
        for each in standing:
            del sys.modules[each.__name__]
