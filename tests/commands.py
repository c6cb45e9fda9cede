"""Commands as a user types them, each in a process of its own.

It is forked from one that has loaded the large libraries, and nothing of Sightline: loading torch anew for each command
would take most of the time of its test.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["python", "sightline"]

_SECONDS = 300
_MAIN = "from sightline.cli.main import main; main()"
_PARENT = """
import atexit, gc, json, os, signal, sys, threading, traceback, warnings
import matplotlib.figure, numpy, PIL.Image, pydantic, rich.console, rich.table, scipy.ndimage, torch._dynamo, typer
gc.collect()
gc.freeze()
for line in iter(sys.stdin.readline, ""):
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    os._exit(0)
for number, file in enumerate((os.devnull, asked["out"], asked["err"])):
    os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
signal.alarm(asked["seconds"])
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
warnings.simplefilter("error")
sys.argv = ["sightline", *asked["arguments"]]
code = 0
try:
    exec(asked["code"], {"__name__": "__main__"})
except SystemExit as end:
    code = end.code
except BaseException:
    traceback.print_exc()
    code = 1
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code if isinstance(code, int) else int(code is not None))  # without taking all that was loaded apart
"""


def sightline(folder: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``sightline`` with arguments in a folder; what is not to be a user's own goes ``before`` it, in Python."""
    return python(folder, before + _MAIN, *arguments)


def python(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, in a process of its own in which warnings are errors; SIGALRM ends it where it hangs."""
    with tempfile.TemporaryDirectory() as aside:
        out, err = Path(aside, "out"), Path(aside, "err")
        asked = {"folder": str(folder), "arguments": arguments, "out": str(out), "err": str(err), "code": code}
        parent = _parent()
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(asked | {"environment": _environment(), "seconds": _SECONDS}) + "\n")
        parent.stdin.flush()
        ended = int(parent.stdout.readline())
        return subprocess.CompletedProcess(
            ["sightline", *arguments], ended, *(f.read_text("utf-8") for f in (out, err))
        )


def _environment() -> dict[str, str]:
    """What the processes that a command starts itself are to have, too."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"}


@functools.cache
def _parent() -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, "-W", "ignore", "-c", _PARENT], text=True, env=_environment(), **pipes)
    atexit.register(parent.communicate)
    return parent
