"""The optical bench: its file, its parts, what it can do, and one that works."""

from fouroptics.bench.bench import Bench, presets
from fouroptics.bench.sampling import Problem, SamplingReport
from fouroptics.bench.solve import solve

__all__ = ["Bench", "Problem", "SamplingReport", "presets", "solve"]
