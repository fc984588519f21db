"""The heart: a bank of 4f correlators on a bench, from pictures to what its camera reads."""

from fouroptics.correlator.bank import Correlator4f

__all__ = ["Correlator4f"]
