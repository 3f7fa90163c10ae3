"""The one transform that LeRobot's reader of datasets uses."""

import numpy
import torch


class ToTensor:
    """A PIL image as torch float32 (channels, height, width) in [0, 1], as torchvision's does it."""

    def __call__(self, image):  # noqa: ANN001, ANN204
        """Convert one image."""
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
