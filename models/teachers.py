"""Nonlinear teachers: AlexNet, a small VGG-like network, a quick one, a U-Net. Pictures in [0, 1] go in; what teachers
are used to is a layer inside them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from fouroptics.models.backends import convolutions
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fouroptics.errors import InputError
from fouroptics.tensors import load_tensors

_LEAST_POWER = 5e-4  # of a patch's component: what is fainter is left faint
_AT_ONCE = 250  # pictures whose patches are held at a time
_LOUDNESS = 1 / 9  # of scores that begin with maxima of many
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures


class Normalise(nn.Module):
    """Pictures in [0, 1] as a network was used to them: less a mean, over a spread, by channel."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Sequence[float] = _MEAN, spread: Sequence[float] = _SPREAD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(spread)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-3] != len(self.mean):
            what = f"pictures of {pictures.shape[-3]} channels, the network takes {len(self.mean)}"
            raise InputError(what, where="pictures", mend="bring them to as many, or build the network for them")
        return (pictures - self.mean) / self.spread


class AlexNet(nn.Module):
    """AlexNet with one tower. Its tensors have the names that torchvision gives them.

    Args:
        classes: scores.
        size: of pictures, 32 … 256; small ones are not strided over as large ones are.
        hidden: width of the two fully connected layers.
        dropout: before each of them.
    """

    def __init__(self, classes: int = 1000, size: int = 224, *, hidden: int = 4096, dropout: float = 0.5) -> None:
        super().__init__()
        if not 32 <= size <= 256:
            raise InputError(f"pictures of {size}", where="size", mend="32 … 256")
        stride = 4 if size >= 160 else 2 if size >= 80 else 1
        self.size = (size, size)
        self.normalise = Normalise()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride, 2 if stride == 4 else 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 36, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.avgpool(self.features(self.normalise(pictures))).flatten(1))
        return found


class SmallCNN(nn.Module):
    """Pairs of 3 × 3 convolutions with a pool behind each pair, as VGG has them, batch-normalised.

    Args:
        classes: scores.
        size: of pictures.
        widths: channels of each pair.
        inputs: channels of pictures.
    """

    def __init__(
        self, classes: int = 10, size: int = 32, *, widths: Sequence[int] = (64, 128, 256), inputs: int = 3
    ) -> None:
        super().__init__()
        self.size = (size, size)
        self.normalise = Normalise((0.5,) * inputs, (0.25,) * inputs)
        layers: list[nn.Module] = []
        before = inputs
        for width in widths:
            for _ in range(2):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.features(self.normalise(pictures)))
        return found


class QuickCNN(nn.Module):
    """Pairs of 3 × 3 convolutions that learn small pictures in a dozen epochs.

    Its first layer sees patches of 2 × 2 whitened, each as it is and turned over, so that nothing has to learn what all
    pictures have in common; pools stand before most of the work; convolutions begin as the identity. Norms have no
    gain, and offsets that follow gradients quickly. Train it with ``optimiser = "nesterov"``.

    Args:
        classes: scores.
        size: of pictures, 24 or more for three pairs.
        widths: channels of each pair.
        inputs: channels of pictures.
    """

    patches: Tensor

    def __init__(
        self, classes: int = 10, size: int = 32, *, widths: Sequence[int] = (64, 256, 256), inputs: int = 3
    ) -> None:
        super().__init__()
        least = 3 * 2 ** len(widths)  # a norm behind the last pool has more than one place of a picture
        if size < least:
            what = f"pictures of {size} for {len(widths)} pairs, each of which halves them"
            raise InputError(what, where="size", mend=f"{least} or more, or fewer widths")
        self.size = (size, size)
        self.normalise = Normalise((0.5,) * inputs, (0.25,) * inputs)
        seen = 4 * inputs
        self.register_buffer("patches", torch.eye(seen).reshape(seen, inputs, 2, 2))
        self.bias = nn.Parameter(torch.zeros(2 * seen))
        layers: list[nn.Module] = []
        before = 2 * seen
        for width in widths:
            for pools in (True, False):
                convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
                nn.init.dirac_(convolution.weight.data[: min(before, width)])
                norm = nn.BatchNorm2d(width, affine=False, momentum=0.4)
                layers += [convolution, *([nn.MaxPool2d(2)] if pools else []), norm, Offset(width), nn.GELU()]
                before = width
        self.pairs = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes, bias=False)

    @torch.no_grad()
    def begin(self, pictures: Tensor) -> None:
        """Fix the first layer by the patches of some training pictures."""
        moments, count = self.bias.new_zeros((), dtype=torch.float64), 0
        for part in torch.split(pictures, _AT_ONCE):
            patches = torch.nn.functional.unfold(self.normalise(part.to(self.patches)), 2).double()
            moments, count = moments + (patches @ patches.mT).sum(0), count + len(patches) * patches.shape[-1]
        values, vectors = torch.linalg.eigh(moments / count)
        whitened = (vectors * (values.clamp_min(0) + _LEAST_POWER).rsqrt()).mT
        self.patches.copy_(whitened.reshape(self.patches.shape))

    def forward(self, pictures: Tensor) -> Tensor:
        patches = torch.cat((self.patches, -self.patches))
        seen = torch.nn.functional.conv2d(self.normalise(pictures), patches, self.bias)
        found: Tensor = self.classifier(self.pairs(seen).amax((-2, -1))) * _LOUDNESS
        return found


class Offset(nn.Module):
    """Adds a number a channel. It is kept in eighths, so that a step of gradient descent moves it 64 times as far."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eighths = nn.Parameter(torch.zeros(channels))

    def forward(self, seen: Tensor) -> Tensor:
        return seen + 8 * self.eighths[:, None, None]


class UNet(nn.Module):
    """A contracting path of pairs of convolutions, and an expanding one that sees every level again.

    Args:
        classes: of a pixel.
        widths: channels of each level; pictures are halved between levels.
        inputs: channels of pictures.
    """

    def __init__(self, classes: int = 2, *, widths: Sequence[int] = (32, 64, 128, 256), inputs: int = 3) -> None:
        super().__init__()
        self.normalise = Normalise((0.5,) * inputs, (0.25,) * inputs)
        self.down = nn.ModuleList(convolutions(a, b) for a, b in zip((inputs, *widths), widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        levels = [*zip(widths[1:], widths, strict=False)][::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, 2) for below, here in levels)
        self.merge = nn.ModuleList(convolutions(2 * here, here) for _, here in levels)
        self.head = nn.Conv2d(widths[0], classes, 1)

    @property
    def contracting(self) -> nn.Sequential:
        """The path down, in its order."""
        steps = [one for level in self.down for one in (self.pool, level)]
        return nn.Sequential(*steps[1:])

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of every pixel ``[batch, classes, y, x]``."""
        halvings = 2 ** (len(self.down) - 1)
        if any(n % halvings for n in pictures.shape[-2:]):
            what = f"pictures of {tuple(pictures.shape[-2:])} cannot be halved {len(self.down) - 1} times"
            raise InputError(what, where="UNet", mend=f"sides that are multiples of {halvings}")
        seen, found = [], self.normalise(pictures)
        for number, level in enumerate(self.down):
            found = level(found if number == 0 else self.pool(found))
            seen.append(found)
        for up, merge, beside in zip(self.up, self.merge, seen[-2::-1], strict=True):
            found = merge(torch.cat((beside, up(found)), 1))
        scores: Tensor = self.head(found)
        return scores


def merged(network: nn.Module) -> nn.Module:
    """A copy for evaluation whose batch norms are part of the convolutions before them: the same scores, sooner."""
    made = copy.deepcopy(network).eval()
    for block in [one for one in made.modules() if type(one) is nn.Sequential]:
        for (before, layer), (behind, norm) in pairwise([*block.named_children()]):
            if type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                setattr(block, before, fuse_conv_bn_eval(layer, norm))
                setattr(block, behind, nn.Identity())
    return made.requires_grad_(False)


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """A network with the tensors of a safetensors file, all of them and no others.

    Raises:
        InputError: the file is of another architecture; the first tensor that does not fit.
    """
    tensors, _ = load_tensors(path)
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise InputError(f"has no tensor {name!r}", where=str(path), mend=f"weights of a {type(network).__name__}")
        if tensors[name].shape != tensor.shape:
            what = f"{name!r} is {[*tensors[name].shape]}, and {[*tensor.shape]} in a {type(network).__name__}"
            raise InputError(what, where=str(path), mend="the same classes and widths as in training")
        kinds = [(one.is_complex(), one.is_floating_point()) for one in (tensors[name], tensor)]
        if kinds[0] != kinds[1]:
            what = f"{name!r} is {tensors[name].dtype}, and {tensor.dtype} in a {type(network).__name__}"
            raise InputError(what.replace("torch.", ""), where=str(path), mend="weights of numbers of the same kind")
        if not tensors[name].isfinite().all():
            raise InputError(
                f"{name!r} holds numbers that are not finite", where=str(path), mend="weights of a whole run"
            )
    strange = sorted(set(tensors) - set(own))
    if strange:
        raise InputError(
            f"has {strange[0]!r}, a {type(network).__name__} has not", where=str(path), mend="other weights"
        )
    network.load_state_dict({name: tensors[name] for name in own})
    return network
