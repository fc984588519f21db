"""The networks: spectral layers, the linear student and its fold, teachers and their training.

In a checkout this folder lies at the top; installed it is ``fouroptics.models``, and that is its only name.
"""

if __name__ != "fouroptics.models":
    raise ImportError("this package is imported as fouroptics.models (install the checkout: pip install -e .)")

from fouroptics.models.frozen import freeze as freeze
from fouroptics.models.osclc import OSCLC as OSCLC
from fouroptics.models.sclc import SCLC as SCLC
from fouroptics.models.sclc import fold as fold
