"""Teaching a student: pictures, losses, recipes, and the loop."""

from fouroptics.models.training.data import Data as Data
from fouroptics.models.training.distill import distillation_loss as distillation_loss
from fouroptics.models.training.folder import Run as Run
from fouroptics.models.training.recipe import Recipe as Recipe
from fouroptics.models.training.results import evaluate as evaluate
from fouroptics.models.training.results import load as load
from fouroptics.models.training.train import train as train
