"""What the warm parent does without, looked at in a process of its own."""

import subprocess
import sys

HEAVY = ("asyncio", "concurrent.futures", "http.client", "http.cookiejar", "tempfile", "urllib.request")
CODE = f"""
import sys
from truecl.service.lean import spared

with spared():
    from truecl.service import warm
for name in warm.ENTRIES:
    warm.entry(name)
print([each for each in {HEAVY} if each in sys.modules])
from twisted.internet.defer import ensureDeferred

async def answer():
    return 42

print(ensureDeferred(answer()).result)
import asyncio
print(asyncio.run(answer()))
"""


def test_no_daemon_brings_what_is_spared_and_it_can_still_be_had() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split("\n") == ["[]", "42", "42", ""]


def test_what_is_there_already_stays() -> None:
    code = "import asyncio, sys\nfrom truecl.service.lean import spared\nwith spared(): import asyncio as inside\n"
    code += "print(inside is asyncio is sys.modules['asyncio'] and hasattr(asyncio, 'run'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "True\n"
