"""The two networks (section 2.1), each with attention on or off.  Their layers are our choice: the article names none.

    z (128) -> Generator -> picture (3, 64, 64) in [-1, 1]
    picture -> Discriminator -> one logit: positive for "real", negative for "fake"

At width 64 and 64x64 pixels (height x width x channels), with attention at 32x32 (section 2.2, attention.py):

    generator       z -> 4x4x512 -> 8x8x256 -> 16x16x128 -> 32x32x64 [attention] -> 64x64x32 -> 64x64x3
    discriminator   64x64x3 -> 64x64x32 -> 32x32x64 [attention] -> 16x16x128 -> 8x8x256 -> 4x4x512 -> 1
"""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from attention import SelfAttention

Z_DIM = 128  # standard normal numbers that make a picture


def channels_at(resolution, size, width):
    """Channels of the feature maps: `width` at half the picture's size, twice as many at each halved resolution."""
    return width * size // (2 * resolution)


def resolutions(size):
    """The resolutions of the feature maps in networks for pictures of size x size."""
    return {32: [4, 8, 16, 32], 64: [4, 8, 16, 32, 64], 128: [4, 8, 16, 32, 64, 128]}[size]


def attention_layers(attention_at, size, width):
    """{"32": SelfAttention} for the resolutions in `attention_at`; a KeyError if there are no such feature maps.

    They are made last, so that in the article's four variants all other layers draw the same first weights.
    """
    channels = {r: channels_at(r, size, width) for r in resolutions(size)}
    return nn.ModuleDict({str(r): SelfAttention(channels[r]) for r in attention_at})


class Generator(nn.Module):
    """Pictures from noise: z (B, 128), standard normal -> (B, 3, size, size) in [-1, 1].

    `attention_at`: resolutions with attention, () for none.  With `return_maps` also {"32": attention map (B, N, N)}.
    """

    def __init__(self, size=64, width=64, attention_at=(32,)):
        super().__init__()
        self.blocks = nn.ModuleDict()
        channels = Z_DIM
        for r in resolutions(size):
            before, channels = channels, channels_at(r, size, width)
            if r == 4:  # from 1x1: a matrix product
                layers = [nn.ConvTranspose2d(before, channels, 4, bias=False)]
            else:  # not transposed: there other weights draw every other pixel, which leaves a grid
                layers = [nn.Upsample(scale_factor=2), nn.Conv2d(before, channels, 3, padding=1, bias=False)]
            self.blocks[str(r)] = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        self.attention = attention_layers(attention_at, size, width)

    def forward(self, z, return_maps=False):
        x, maps = z[:, :, None, None], {}  # (B, 128, 1, 1)
        for r, block in self.blocks.items():
            x = block(x)  # (B, channels, r, r)
            if r in self.attention and return_maps:
                x, maps[r] = self.attention[r](x, return_map=True)
            elif r in self.attention:
                x = self.attention[r](x)
        pictures = torch.tanh(self.to_rgb(x))  # (B, 3, size, size)
        return (pictures, maps) if return_maps else pictures


class Discriminator(nn.Module):
    """Real or fake?  x (B, 3, size, size) in [-1, 1] -> logits (B,).  Arguments as the generator's.

    There is no batch norm, so that every picture is judged by itself: photos and fakes can go through in one batch.
    """

    def __init__(self, size=64, width=64, attention_at=(32,)):
        super().__init__()
        self.blocks = nn.ModuleDict()
        channels = 3
        for r in reversed(resolutions(size)):
            before, channels = channels, channels_at(r, size, width)
            window = (3, 1, 1) if r == size else (4, 2, 1)  # kernel, stride, padding: all but the first halve the size
            self.blocks[str(r)] = nn.Sequential(nn.Conv2d(before, channels, *window), nn.LeakyReLU(0.1))
        self.to_logit = nn.Conv2d(channels, 1, 4)
        self.attention = attention_layers(attention_at, size, width)

    def forward(self, x):
        for r, block in self.blocks.items():
            x = block(x)  # (B, channels, r, r)
            if r in self.attention:
                x = self.attention[r](x)
        return self.to_logit(x).flatten()  # (B,)


def build(network_class, size, options):
    """A Generator or Discriminator as a run's options (the dict in its config.json) say."""
    no_attention = options["no_gen_attn"] if network_class is Generator else options["no_disc_attn"]
    network = network_class(size, options["width"], () if no_attention else options["attn_at"])
    if options["spectral_norm"]:
        for module in list(network.modules()):
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                spectral_norm(module)
    return network.to(memory_format=torch.channels_last)  # (B, H, W, C) in memory, because convolutions are faster so


def to_float(pictures):
    """uint8 in 0..255, as files have -> floats in [-1, 1], as the networks see."""
    return pictures.float().div(127.5).sub(1)


def to_uint8(x):
    """Floats in [-1, 1] -> uint8 in 0..255, rounded."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
