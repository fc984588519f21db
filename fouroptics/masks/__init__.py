"""What leaves the house: mask sets as files, and what foundries and modulators take."""

from fouroptics.masks.maskset import MaskSet as MaskSet
