"""Each test process and what it starts have one thread, or torch's would fight over the cores, and hear Ctrl-C; each
test draws the same random numbers, whatever ran before it."""

from __future__ import annotations

import os
import random
import re
import signal
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NUMBA_DISABLE_JIT"] = "1"  # shap would compile for seconds what runs for milliseconds here

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what they put into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    _seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> None:
    """Seed also what is made once for a module: whichever test comes first there finds it the same."""
    if fixturedef.scope != "function":
        _seed(1)


# Modules whose servers, browsers, clusters and runs are made once: by one worker, not by each.
_TOGETHER = re.compile(
    r"(?:^|/)(test_(?:app_\w+|batch_(?:audit|kill|ray)|card|demo_scenes|demo_story|report_browser|saved"
    r"|training|training_demo|training_report_browser))\.py::"
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests one by one, and those of the modules above all to one worker: pytest-xdist's own groups do nothing
    under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # the way in which xdist lets a scope be chosen
        def _split_scope(self, nodeid: str) -> str:
            found = _TOGETHER.search(nodeid)
            return found[1] if found else nodeid

    return Together(config, log)
