"""``python -m memristore``: the command line, for launchers that want a module (mpiexec, Slurm)."""

from __future__ import annotations

from memristore.cli import main

if __name__ == "__main__":
    main()
