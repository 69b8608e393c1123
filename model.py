"""The two networks (section 2.1), each with attention on or off.  Their layers are our choice: the article names none.

    z (128) -> Generator -> picture (3, 64, 64) in [-1, 1]
    picture -> Discriminator -> one logit: positive for "a photo", negative for "made up"

At width c = 64 and 64x64 pixels, with the attention at 32x32 (section 2.2, attention.py):

    generator       z -> 4x4x512 -> 8x8x256 -> 16x16x128 -> 32x32x64 [attention] -> 64x64x3
    discriminator   1 <- 4x4x512 <- 8x8x256 <- 16x16x128 <- 32x32x64 [attention] <- 64x64x3

Every convolution of both is spectrally normalised: its kernel, as a matrix, is divided by an estimate of its largest
singular value.  In D that bounds the slope of the convolutions (Miyato et al. 2018), though not of attention with its
gamma; in G, where batch norm rescales anyway, it steadies the training (Zhang et al. 2019).
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from attention import SelfAttention


def channels_at(resolution, size, width):
    """Channels of the feature maps at a resolution: `width` just below the picture's size, doubling downwards."""
    return width * size // (2 * resolution)


def resolutions(size):
    """The feature maps between 4x4 and the picture: 64 -> [4, 8, 16, 32].  `size`: 32, 64 or 128."""
    if size not in (32, 64, 128):
        raise ValueError(f"pictures of {size}x{size} are not supported: take 32, 64 or 128")
    return [r for r in (4, 8, 16, 32, 64) if r < size]


def attention_layers(attention_at, size, width, pool):
    """{"32": SelfAttention} for the resolutions in `attention_at`.

    The networks make these last: convolutions made before them draw the same random initial weights
    whether there is attention or not, so that the article's four variants start alike.
    """
    for r in attention_at:
        if r not in resolutions(size):
            raise ValueError(f"no attention at {r}x{r}: the feature maps are {resolutions(size)} wide")
    return nn.ModuleDict({str(r): SelfAttention(channels_at(r, size, width), pool) for r in attention_at})


class Generator(nn.Module):
    """Pictures from noise: z (B, z_dim), standard normal -> (B, 3, size, size) in [-1, 1].

    `attention_at`: resolutions with attention, () for none.  `modulate`: self-modulation: z scales and shifts the
    channels of every feature map, so that it reaches late layers directly, too.  (After Chen et al. 2019, with one
    hidden layer for all maps, and beside batch norm's own scale and shift, which theirs replace.)
    Raises ValueError for a size or resolution that the network doesn't have.
    """

    def __init__(self, size=64, width=64, z_dim=128, attention_at=(32,), attention_pool=False, modulate=False):
        super().__init__()
        self.z_dim = z_dim
        self.blocks = nn.ModuleDict()
        for r in resolutions(size):
            if r == 4:
                conv = nn.ConvTranspose2d(z_dim, channels_at(4, size, width), 4, bias=False)
            else:
                channels = channels_at(r // 2, size, width), channels_at(r, size, width)
                conv = nn.ConvTranspose2d(*channels, 4, stride=2, padding=1, bias=False)
            # The batch norm has a bias of its own.
            norm = nn.BatchNorm2d(channels_at(r, size, width))
            self.blocks[str(r)] = nn.Sequential(spectral_norm(conv), norm)
        self.to_rgb = spectral_norm(nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1))
        self.modulation = nn.ModuleDict()  # without spectral norm; before attention, see attention_layers
        if modulate:
            self.z_features = nn.Sequential(nn.Linear(z_dim, z_dim), nn.ReLU())
            for r in resolutions(size):
                self.modulation[str(r)] = nn.Linear(z_dim, 2 * channels_at(r, size, width))
        self.attention = attention_layers(attention_at, size, width, attention_pool)

    def forward(self, z):
        features = self.z_features(z) if self.modulation else None
        x = z[:, :, None, None]  # (B, z_dim, 1, 1)
        for r, block in self.blocks.items():
            x = block(x)  # (B, channels, r, r)
            if r in self.modulation:
                scale, shift = self.modulation[r](features)[:, :, None, None].chunk(2, dim=1)  # (B, channels, 1, 1)
                x = x * (1 + scale) + shift
            x = F.relu(x)
            if r in self.attention:
                x = self.attention[r](x)
        return torch.tanh(self.to_rgb(x))  # (B, 3, size, size)


class Discriminator(nn.Module):
    """Photo or made up?  x (B, 3, size, size) in [-1, 1] -> logits (B,).  Arguments as the generator's.

    No batch norm: every picture is judged by itself, so that real and fake can go through in one batch.

    `logit_gain`: spectral norm keeps the slope of the logits small.  Multiplied, they change more from picture to
    picture; what that gave is in docs/recipe.md.
    """

    def __init__(self, size=64, width=64, attention_at=(32,), attention_pool=False, logit_gain=1.0):
        super().__init__()
        self.logit_gain = logit_gain
        self.blocks = nn.ModuleDict()
        channels = 3
        for r in reversed(resolutions(size)):
            conv = nn.Conv2d(channels, channels_at(r, size, width), 4, stride=2, padding=1)
            self.blocks[str(r)] = nn.Sequential(spectral_norm(conv), nn.LeakyReLU(0.1))
            channels = channels_at(r, size, width)
        self.to_logit = spectral_norm(nn.Conv2d(channels, 1, 4))
        self.attention = attention_layers(attention_at, size, width, attention_pool)

    def forward(self, x):
        for r, block in self.blocks.items():
            x = block(x)  # (B, channels, r, r)
            if r in self.attention:
                x = self.attention[r](x)
        return self.logit_gain * self.to_logit(x).flatten()  # (B,)


def to_float(pictures):
    """uint8 in 0..255, as files have -> floats in [-1, 1], as the networks see; channels-last in memory (faster)."""
    return pictures.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def to_uint8(x):
    """The way back, rounded: floats in [-1, 1] -> uint8 in 0..255."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def refresh_batch_norm(generator, z, batch=64):
    """Measure batch norm's statistics anew, as means over batches of z (N, z_dim), for weights that are an average.

    Statistics gathered in training belong to the trained weights; with averaged ones, pictures come out dull.
    """
    norms = [layer for layer in generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    usual, training = norms[0].momentum, generator.training
    generator.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for part in z.split(batch):
        generator(part)
    for norm in norms:
        norm.momentum = usual
    generator.train(training)


@torch.no_grad()
def generate(generator, z, batch=64):
    """Pictures for given z (N, z_dim), in batches on the generator's device -> uint8 (N, 3, size, size) there.

    The generator is in evaluation mode meanwhile: a picture depends on its z alone, not on the others'.
    """
    device, training = next(generator.parameters()).device, generator.training
    generator.eval()
    pictures = torch.cat([to_uint8(generator(part.to(device))) for part in z.split(batch)])
    generator.train(training)
    return pictures
