"""Inception-v3, the network whose features FID compares (Szegedy et al. 2015, arXiv 1512.00567), and its weights.

    features = load_inception()(images)  # (B, 3, H, W) in [0, 1] -> (B, 2048); fetches the weights (91 MB), once

A block sees its input through branches side by side, with small and large kernels, and concatenates what they give.
The figures named are the paper's: a line of code is a column of boxes in them, from the bottom to the top.  The
weights are pytorch-fid's, of a network where average pools leave the padding out and the last block has a maximum.
"""

import hashlib
import re
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common import UserError
from files import fetch_once, load_checkpoint
from parallel import rank

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # the first digits of the file's
FEATURES = 2048


class Branches(nn.ModuleDict):
    """Branches, each a layer or a list, see the same input; their outputs (B, C, H, W) are concatenated along C."""

    def __init__(self, **branches):
        super().__init__({k: nn.Sequential(*b) if isinstance(b, list) else b for k, b in branches.items()})

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.values()], 1)


def conv(inputs, outputs, kernel=1, stride=1, padding="same"):
    """A convolution, batch norm and ReLU.  The maps keep their size, but with a stride nothing is padded."""
    weights = nn.Conv2d(inputs, outputs, kernel, stride, padding if stride == 1 else "valid", bias=False)
    return nn.Sequential(OrderedDict(conv=weights, bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU(inplace=True)))


def block_a(inputs, pooled):
    """(B, inputs, 35, 35) -> (B, 224 + pooled, 35, 35): figure 5, but with a 5x5 where that has a single 3x3."""
    return Branches(
        branch1x1=conv(inputs, 64),
        branch5x5=[conv(inputs, 48), conv(48, 64, 5)],
        branch3x3dbl=[conv(inputs, 64), conv(64, 96, 3), conv(96, 96, 3)],
        branch_pool=[nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(inputs, pooled)],
    )


def block_b():
    """(B, 288, 35, 35) -> (B, 768, 17, 17): figure 10, but with no 1x1 before the single 3x3."""
    return Branches(
        branch3x3=conv(288, 384, 3, stride=2),
        branch3x3dbl=[conv(288, 64), conv(64, 96, 3), conv(96, 96, 3, stride=2)],
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


def block_c(c):
    """(B, 768, 17, 17) -> the same: figure 6, 7x7 as 1x7 and 7x1, which are 14 weights instead of 49."""
    return Branches(
        branch1x1=conv(768, 192),
        branch7x7=[conv(768, c), conv(c, c, (1, 7)), conv(c, 192, (7, 1))],
        branch7x7dbl=[conv(768, c), conv(c, c, (7, 1)), conv(c, c, (1, 7)), conv(c, c, (7, 1)), conv(c, 192, (1, 7))],
        branch_pool=[nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(768, 192)],
    )


def block_d():
    """(B, 768, 17, 17) -> (B, 1280, 8, 8): figure 10, but with 1x7 and 7x1 for the first of the two 3x3 in a row."""
    return Branches(
        branch3x3=[conv(768, 192), conv(192, 320, 3, stride=2)],
        branch7x7x3=[conv(768, 192), conv(192, 192, (1, 7)), conv(192, 192, (7, 1)), conv(192, 192, 3, stride=2)],
        branch_pool=nn.MaxPool2d(3, stride=2),
    )


def block_e(inputs, pool):
    """(B, inputs, 8, 8) -> (B, 2048, 8, 8): figure 7, where 1x3 and 3x1 side by side give more channels."""
    forks = [Branches(a=conv(384, 384, (1, 3)), b=conv(384, 384, (3, 1))) for _ in range(2)]
    return Branches(
        branch1x1=conv(inputs, 320),
        branch3x3=[conv(inputs, 384), forks[0]],
        branch3x3dbl=[conv(inputs, 448), conv(448, 384, 3), forks[1]],
        branch_pool=[pool, conv(inputs, 192)],
    )


def resize(images):
    """(B, 3, H, W) -> (B, 3, 299, 299), bilinear and not antialiased, as in pytorch-fid."""
    return F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)


class Inception(nn.Sequential):
    """The network without its last layer, from pictures to features; `load_inception` gives it with its weights."""

    def __init__(self):
        layers = OrderedDict(
            Conv2d_1a_3x3=conv(3, 32, 3, stride=2),  # (B, 32, 149, 149)
            Conv2d_2a_3x3=conv(32, 32, 3, padding="valid"),  # (B, 32, 147, 147)
            Conv2d_2b_3x3=conv(32, 64, 3),  # (B, 64, 147, 147)
            maxpool1=nn.MaxPool2d(3, stride=2),  # (B, 64, 73, 73)
            Conv2d_3b_1x1=conv(64, 80),  # (B, 80, 73, 73)
            Conv2d_4a_3x3=conv(80, 192, 3, padding="valid"),  # (B, 192, 71, 71)
            maxpool2=nn.MaxPool2d(3, stride=2),  # (B, 192, 35, 35)
            Mixed_5b=block_a(192, 32),  # (B, 256, 35, 35)
            Mixed_5c=block_a(256, 64),  # (B, 288, 35, 35)
            Mixed_5d=block_a(288, 64),  # (B, 288, 35, 35)
            Mixed_6a=block_b(),  # (B, 768, 17, 17), and so the next four
            Mixed_6b=block_c(128),
            Mixed_6c=block_c(160),
            Mixed_6d=block_c(160),
            Mixed_6e=block_c(192),
            Mixed_7a=block_d(),  # (B, 1280, 8, 8)
            Mixed_7b=block_e(1280, nn.AvgPool2d(3, 1, 1, count_include_pad=False)),  # (B, 2048, 8, 8)
            Mixed_7c=block_e(FEATURES, nn.MaxPool2d(3, stride=1, padding=1)),  # its mean over 8x8 are the features
            fc=nn.Linear(FEATURES, 1008),  # from the features to the classes: in the file, and not used here
        )
        super().__init__(layers)

    @torch.no_grad()
    def forward(self, images):
        """Pictures (B, 3, H, W), floats in [0, 1], from any device -> features (B, 2048), float32."""
        device, features = self.fc.weight.device, []
        # On a CPU 16 at a time are fastest: more leave its cache, and fewer make 1x1 convolutions slow on one thread.
        parts = images.split(16) if device.type == "cpu" else [images]
        # TF32 keeps 10 bits of float32's 23 and autocast 7: the numbers would no longer be pytorch-fid's.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch.autocast(device.type, enabled=False):
            for part in parts:
                x = 2 * resize(part.to(device)) - 1
                for layer in list(self)[:-1]:
                    x = layer(x)
                features.append(x.mean((2, 3)))
        return torch.cat(features)


def name_in_file(name):
    """The file's name of a weight from that here: Mixed_7b.branch3x3.1.a.bn.bias -> Mixed_7b.branch3x3_2a.bn.bias."""
    name = name.replace("branch_pool.1.", "branch_pool.")
    return re.sub(r"(branch\w+)\.(\d)(?:\.([ab])\b)?", lambda m: f"{m[1]}_{int(m[2]) + 1}{m[3] or ''}", name)


def load_inception(weights=None, device="cpu"):
    """The Inception network on a device.  `weights`: a file; None: pytorch-fid's, fetched once to torch.hub's cache.

    Raises UserError when there are none, or when they are another network's, naming an entry.
    """
    path = Path(weights or f"{torch.hub.get_dir()}/checkpoints/{URL.rpartition('/')[2]}")
    if not weights:
        fetch_once(URL, path, SHA256)
    state = load_checkpoint(path)
    with torch.device("meta"):  # because no time should go into first weights, which are replaced
        inception = Inception().eval()
    names = {name_in_file(name): name for name in inception.state_dict()}
    try:
        inception.load_state_dict({names.get(name, name): value for name, value in state.items()}, assign=True)
    except RuntimeError as error:  # it names the entries
        raise UserError(f"{path}: not the weights of FID's Inception: {name_in_file(str(error))[:300]} ...") from None
    if rank() == 0 and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(SHA256):
        print(f"warning: {path} isn't the usual file ({SHA256}...): numbers differ from others'", file=sys.stderr)
    for part in inception.modules():
        if hasattr(part, "bn"):  # batch norm with fixed statistics scales and shifts: weights can do that at once
            part.conv, part.bn = fuse_conv_bn_eval(part.conv, part.bn), nn.Identity()
    return inception.to(device, torch.float32, memory_format=torch.channels_last)
