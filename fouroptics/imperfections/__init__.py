"""What can be off on a bench: the fields, values of them to apply, and tolerances to draw values from."""

from fouroptics.imperfections.correlations import Correlation
from fouroptics.imperfections.distributions import Amount, Distribution
from fouroptics.imperfections.fields import FIELDS, Field, named, sizes
from fouroptics.imperfections.tolerances import Metric, Study, Tolerances, presets
from fouroptics.imperfections.values import Imperfections

__all__ = [
    "FIELDS", "Amount", "Correlation", "Distribution", "Field", "Imperfections", "Metric", "Study", "Tolerances",
    "named", "presets", "sizes",
]  # fmt: skip
