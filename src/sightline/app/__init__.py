"""The app: every explanation in a browser, through the same `explain` and `evaluate` as everywhere else."""
