"""Each test process and what it starts have one thread, or torch's would fight over the cores, and hear Ctrl-C."""

from __future__ import annotations

import os
import signal

import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what they put into the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
