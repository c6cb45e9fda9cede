"""One thread for each test process and what it starts: torch's threads would fight over the cores."""

from __future__ import annotations

import os

import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
