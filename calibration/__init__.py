"""From measurements to a corrected bench.

In a checkout this folder lies at the top; installed it is ``fouroptics.calibration``, and that is its only name.
"""

if __name__ != "fouroptics.calibration":
    raise ImportError("this package is imported as fouroptics.calibration (install the checkout: pip install -e .)")
