"""One thread for each test process: the tests are small, and torch's threads would fight over the cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
