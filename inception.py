"""Inception-v3, the network whose features FID compares (Szegedy et al. 2015), and its weights.

    inception = load_inception()       # fetches the weights (91 MB), once
    features = inception(images)       # (B, 3, H, W) in [0, 1] -> (B, 2048)

A block sees its input through several branches side by side, with small and large kernels, and concatenates what they
give.  Layers have the names of pytorch-fid's file of weights.  These are those of the network of 2015, which differs
from today's: average pools leave the padding out, the last block pools the maximum, and there are 1008 classes.
"""

import hashlib
import sys
from collections import OrderedDict
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common import UserError, load_checkpoint
from parallel import rank

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # the first digits of the file's
FEATURES = 2048

average_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
max_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve = partial(F.max_pool2d, kernel_size=3, stride=2)  # the size of the maps


def convolution(inputs, outputs, kernel=1, stride=1, padding="same"):
    """A convolution, batch norm and ReLU.  The maps keep their size, but with a stride nothing is padded."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding if stride == 1 else "valid", bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU(inplace=True)))


class InceptionA(nn.Module):
    """(B, inputs, 35, 35) -> (B, 224 + pool_channels, 35, 35), figure 5 of the paper."""

    def __init__(self, inputs, pool_channels):
        super().__init__()
        self.branch1x1 = convolution(inputs, 64)
        self.branch5x5_1 = convolution(inputs, 48)
        self.branch5x5_2 = convolution(48, 64, 5)
        self.branch3x3dbl_1 = convolution(inputs, 64)
        self.branch3x3dbl_2 = convolution(64, 96, 3)
        self.branch3x3dbl_3 = convolution(96, 96, 3)
        self.branch_pool = convolution(inputs, pool_channels)

    def forward(self, x):
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average_pool(x))], 1)


class InceptionB(nn.Module):
    """(B, 288, 35, 35) -> (B, 768, 17, 17): halves the size, figure 10."""

    def __init__(self):
        super().__init__()
        self.branch3x3 = convolution(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = convolution(288, 64)
        self.branch3x3dbl_2 = convolution(64, 96, 3)
        self.branch3x3dbl_3 = convolution(96, 96, 3, stride=2)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, halve(x)], 1)


class InceptionC(nn.Module):
    """(B, 768, 17, 17) -> the same, figure 6: 7x7 as 1x7 and 7x1, which are 14 weights instead of 49."""

    def __init__(self, c):
        super().__init__()
        self.branch1x1 = convolution(768, 192)
        self.branch7x7_1 = convolution(768, c)
        self.branch7x7_2 = convolution(c, c, (1, 7))
        self.branch7x7_3 = convolution(c, 192, (7, 1))
        self.branch7x7dbl_1 = convolution(768, c)
        self.branch7x7dbl_2 = convolution(c, c, (7, 1))
        self.branch7x7dbl_3 = convolution(c, c, (1, 7))
        self.branch7x7dbl_4 = convolution(c, c, (7, 1))
        self.branch7x7dbl_5 = convolution(c, 192, (1, 7))
        self.branch_pool = convolution(768, 192)

    def forward(self, x):
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average_pool(x))], 1)


class InceptionD(nn.Module):
    """(B, 768, 17, 17) -> (B, 1280, 8, 8): halves the size once more."""

    def __init__(self):
        super().__init__()
        self.branch3x3_1 = convolution(768, 192)
        self.branch3x3_2 = convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = convolution(768, 192)
        self.branch7x7x3_2 = convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = convolution(192, 192, 3, stride=2)

    def forward(self, x):
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, halve(x)], 1)


class InceptionE(nn.Module):
    """(B, inputs, 8, 8) -> (B, 2048, 8, 8), figure 7: 1x3 and 3x1 side by side, for more channels."""

    def __init__(self, inputs, pool):
        super().__init__()
        self.pool = pool
        self.branch1x1 = convolution(inputs, 320)
        self.branch3x3_1 = convolution(inputs, 384)
        self.branch3x3_2a = convolution(384, 384, (1, 3))
        self.branch3x3_2b = convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = convolution(inputs, 448)
        self.branch3x3dbl_2 = convolution(448, 384, 3)
        self.branch3x3dbl_3a = convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = convolution(384, 384, (3, 1))
        self.branch_pool = convolution(inputs, 192)

    def forward(self, x):
        three = self.branch3x3_1(x)
        three = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        double = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *three, *double, self.branch_pool(self.pool(x))], 1)


def resize(images):
    """(B, 3, H, W) -> (B, 3, 299, 299), bilinear and not antialiased, as in pytorch-fid."""
    return F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)


class Inception(nn.Sequential):
    """The network of the paper's table 1; `load_inception` gives it with its weights."""

    def __init__(self):
        layers = OrderedDict(  # from images (B, 3, 299, 299) in [-1, 1]
            Conv2d_1a_3x3=convolution(3, 32, 3, stride=2),  # (B, 32, 149, 149)
            Conv2d_2a_3x3=convolution(32, 32, 3, padding="valid"),  # (B, 32, 147, 147)
            Conv2d_2b_3x3=convolution(32, 64, 3),  # (B, 64, 147, 147)
            maxpool1=nn.MaxPool2d(3, stride=2),  # (B, 64, 73, 73)
            Conv2d_3b_1x1=convolution(64, 80),  # (B, 80, 73, 73)
            Conv2d_4a_3x3=convolution(80, 192, 3, padding="valid"),  # (B, 192, 71, 71)
            maxpool2=nn.MaxPool2d(3, stride=2),  # (B, 192, 35, 35)
            Mixed_5b=InceptionA(192, 32),  # (B, 256, 35, 35)
            Mixed_5c=InceptionA(256, 64),  # (B, 288, 35, 35)
            Mixed_5d=InceptionA(288, 64),  # (B, 288, 35, 35)
            Mixed_6a=InceptionB(),  # (B, 768, 17, 17), and so the next four
            Mixed_6b=InceptionC(128),
            Mixed_6c=InceptionC(160),
            Mixed_6d=InceptionC(160),
            Mixed_6e=InceptionC(192),
            Mixed_7a=InceptionD(),  # (B, 1280, 8, 8)
            Mixed_7b=InceptionE(1280, average_pool),  # (B, 2048, 8, 8)
            Mixed_7c=InceptionE(FEATURES, max_pool),  # (B, 2048, 8, 8); its mean over 8x8 are the features
            fc=nn.Linear(FEATURES, 1008),  # from the features to the classes: in the file, and not used here
        )
        super().__init__(layers)

    @torch.no_grad()
    def forward(self, images):
        """Floats in [0, 1], (B, 3, H, W) or a list of (3, H, W) of any sizes -> features (B, 2048), float32."""
        device, features = self.fc.weight.device, []
        # On a CPU 16 at a time are fastest: more leave its cache, and fewer make 1x1 convolutions slow on one thread.
        step = 16 if device.type == "cpu" else len(images)
        # TF32 keeps 10 bits of float32's 23 and autocast 7: the numbers would no longer be pytorch-fid's.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch.autocast(device.type, enabled=False):
            for start in range(0, len(images), step):
                same = groupby(images[start : start + step], key=lambda image: image.shape)
                # Neighbours of equal size go in one copy and one resize, because on CUDA each would take a launch.
                x = 2 * torch.cat([resize(torch.stack(list(group)).to(device)) for _, group in same]) - 1
                for layer in list(self)[:-1]:
                    x = layer(x)
                features.append(x.mean((2, 3)))
        return torch.cat(features)


def load_inception(weights=None, device="cpu"):
    """The Inception network on a device.  `weights`: a file; None: pytorch-fid's, fetched once to torch.hub's cache.

    Raises UserError when there are none, or when they are another network's, naming an entry.
    """
    path = Path(weights or f"{torch.hub.get_dir()}/checkpoints/{URL.rpartition('/')[2]}")
    if not weights and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, path, hash_prefix=SHA256)  # whole and right, or not at all
        except Exception as error:  # no network, a full disk, another file: each has several kinds
            advice = f"get {URL} (91 MB), put it at {path} or name it: --weights"
            raise UserError(f"Inception's weights can't be fetched ({error}): {advice}") from None
    state = load_checkpoint(path)
    with torch.device("meta"):  # because no time should go into first weights, which are replaced
        inception = Inception().eval()
    try:
        inception.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:  # it names the entries
        raise UserError(f"{path}: not the weights of FID's Inception: {str(error)[:300]} ...") from None
    if rank() == 0 and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(SHA256):
        print(f"warning: {path} isn't the usual file ({SHA256}...): numbers differ from others'", file=sys.stderr)
    for part in inception.modules():
        if hasattr(part, "bn"):  # batch norm with fixed statistics scales and shifts: weights can do that at once
            part.conv, part.bn = fuse_conv_bn_eval(part.conv, part.bn), nn.Identity()
    return inception.to(device, torch.float32, memory_format=torch.channels_last)
