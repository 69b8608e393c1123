"""Drawn "dog photos" in the layout of the Stanford Dogs, to try everything out without the download.

    python data.py --toy 2048         -> datasets/toy-photos-2048/, cropped to datasets/toy64/

Eight breeds that differ in size, colour, ears and build, in five busy places.  Each has one head, four legs and the
proportions of its breed: what attention can get right or wrong.  A reader who came for the GAN can skip this file.
"""

import math
from collections import namedtuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from common import Progress

# Lengths are in units of about a big dog's height. leg: ground to belly; body: hip to shoulder; deep: half
# the chest's depth; head: radius of the skull; muzzle: in skull radii; fur: roughness of outline (0 smooth).
# Colours: coat, belly (also chest and socks), face (muzzle), ear, mark (saddle, spots or patches).
Breed = namedtuple("Breed", "name leg body deep head muzzle fur ears tail marks coat belly face ear mark")
UNIT, CANVAS, FLOOR = 190, (496, 400), 372  # pixels in a unit, canvas of one dog, height of the ground on it
WHITE, BLACK, TAN, WOOD = (250, 246, 238), (42, 36, 38), (190, 112, 58), (122, 88, 62)
LEAF, GRASS, PINE, GOLD = (88, 148, 70), (76, 136, 62), (54, 98, 84), (226, 148, 58)
BREEDS = [
    Breed("Corgi", .22, .80, .20, .25, .75, .1, "pricked", "bushy", "blaze",
          (222, 140, 62), WHITE, WHITE, (212, 128, 54), WHITE),
    Breed("Dalmatian", .56, .72, .21, .22, .95, 0, "floppy", "straight", "spots",
          (244, 242, 240), (244, 242, 240), (244, 242, 240), BLACK, BLACK),
    Breed("Beagle", .38, .66, .21, .24, .8, 0, "floppy", "straight", "saddle",
          (194, 120, 62), WHITE, WHITE, (156, 88, 44), BLACK),
    Breed("Dachshund", .15, 1.02, .16, .20, 1.35, 0, "floppy", "straight", "plain",
          (84, 46, 34), TAN, TAN, (64, 36, 28), BLACK),
    Breed("Husky", .46, .72, .22, .25, .75, .12, "pricked", "curled", "blaze",
          (112, 118, 132), WHITE, WHITE, (84, 88, 102), WHITE),
    Breed("Golden_retriever", .44, .78, .24, .26, .8, .16, "floppy", "bushy", "plain",
          (226, 168, 84), (242, 206, 138), (232, 180, 100), (198, 134, 58), BLACK),
    Breed("Pug", .28, .50, .22, .27, .4, 0, "button", "curled", "plain",
          (224, 192, 148), (232, 204, 164), (62, 52, 52), (52, 44, 46), BLACK),
    Breed("Jack_Russell", .36, .56, .18, .23, .7, .05, "button", "straight", "patches",
          WHITE, WHITE, WHITE, (150, 86, 46), (168, 100, 54)),
]
# Rows (x, y, radius) of tubes: ears in skull radii round the middle of the head, seen from the side and the
# front; tails in units from their root.
EARS = {"pricked": ([(-.35, .55, .36), (-.48, 1.1, .24), (-.52, 1.6, .06)],
                    [(.58, .55, .38), (.74, 1.05, .26), (.84, 1.55, .06)]),
        "floppy": ([(-.22, .62, .18), (-.55, .2, .28), (-.6, -.3, .3), (-.5, -.7, .22)],
                   [(.62, .62, .2), (.98, .25, .28), (1.06, -.25, .3), (1, -.65, .22)]),
        "button": ([(-.42, .72, .2), (-.22, .72, .24), (-.12, .42, .18), (-.02, .12, .06)],
                   [(.5, .75, .2), (.78, .72, .24), (.88, .42, .18), (.9, .15, .06)])}
TAILS = {"curled": [(0, 0, .08), (-.1, .1, .08), (-.1, .3, .09), (.1, .33, .08), (.1, .2, .06), (0, .1, .04)],
         "straight": [(.06, -.03, .06), (-.1, .08, .045), (-.24, .22, .035), (-.32, .36, .018)],
         "bushy": [(.06, -.02, .07), (-.1, 0, .08), (-.26, 0, .12), (-.4, .1, .04)]}

# Things of a scene: shapes (kind, colour, corners) in units of the thing's size, y upwards from its foot;
# boxes are left, top, right, bottom. The colour None is drawn by lot.
E, R, P = "ellipse", "rectangle", "polygon"
THINGS = {
    "cloud": [(E, WHITE, (-.5, .3, .1, 0)), (E, WHITE, (-.25, .5, .3, .05)), (E, WHITE, (0, .28, .6, 0))],
    "hill": [(E, (140, 184, 112), (-1, .35, 1, -.4))],
    "tree": [(R, WOOD, (-.06, .6, .06, 0)), (E, GRASS, (-.4, .9, .1, .4)), (E, LEAF, (-.2, 1, .4, .5))],
    "maple": [(R, WOOD, (-.05, .6, .05, 0)), (E, TAN, (-.4, .9, .1, .4)), (E, GOLD, (-.2, 1, .4, .5))],
    "fir": [(R, WOOD, (-.06, .2, .06, 0)), (P, PINE, (-.4, .12, 0, .6, .4, .12)),
            (P, WHITE, (-.3, .38, 0, .68, .3, .38)), (P, PINE, (-.3, .34, 0, .85, .3, .34)),
            (P, WHITE, (-.18, .6, 0, 1, .18, .6))],
    "flower": [(R, LEAF, (-.05, .6, .05, 0)), (E, None, (-.3, 1, .3, .4)), (E, WHITE, (-.1, .8, .1, .6))],
    "tuft": [(P, GRASS, (-.3, 0, -.4, .8, -.1, .2, 0, 1, .1, .2, .4, .7, .3, 0))],
    "leaf": [(E, None, (-.5, .5, .5, 0))],
    "fence": [(R, WHITE, (-9, .7, 9, .5))] + [(R, WHITE, (x / 2, 1, x / 2 + .2, 0)) for x in range(-18, 18)],
    "sea": [(R, (86, 164, 196), (-9, 0, 9, -.35)), (R, (196, 228, 230), (-9, -.33, 9, -.38))],
    "boat": [(P, None, (-.3, .12, .3, .12, .2, 0, -.2, 0)), (P, WHITE, (0, .15, 0, .8, .35, .2))],
    "parasol": [(R, WHITE, (-.02, .8, .02, 0)), (P, None, (-.5, .75, -.3, 1, 0, 1.1, .3, 1, .5, .75))],
    "stripe": [(R, None, (-.1, 4, .1, 0))],
    "picture": [(R, WOOD, (-.3, .5, .3, 0)), (R, None, (-.25, .45, .25, .05)), (E, None, (-.1, .3, .1, .1))],
    "sofa": [(R, None, (-.7, .6, .7, .1)), (E, None, (-.45, .6, -.1, .28)), (R, TAN, (-.75, .25, .75, 0))],
    "rug": [(E, None, (-1, .25, 1, -.25)), (E, WHITE, (-.85, .2, .85, -.2)), (E, None, (-.8, .17, .8, -.17))],
    "ball": [(E, None, (-.5, 1, .5, 0)), (E, WHITE, (-.25, .8, .05, .5))],
}
# Colours of the sky (top, bottom) and the ground (far, near), then things: kind, how many at most, highest
# and lowest foot (0: horizon, 1: bottom, -1: top), size in picture heights.
SCENES = [
    [(132, 190, 236), (226, 240, 248), (164, 200, 104), (98, 158, 66), ("cloud", 3, -1, -.5, .3),
     ("hill", 3, 0, .05, .5), ("tree", 3, 0, .1, .5), ("fence", 1, .1, .2, .15), ("tuft", 25, .1, 1, .08),
     ("flower", 30, .15, 1, .09)],
    [(110, 186, 238), (220, 242, 250), (236, 212, 160), (246, 226, 178), ("cloud", 2, -1, -.6, .25),
     ("sea", 1, 0, 0, 1), ("boat", 2, 0, .05, .25), ("parasol", 2, .25, .4, .6), ("leaf", 12, .4, 1, .03)],
    [(176, 190, 226), (246, 226, 226), (226, 234, 246), (240, 245, 250), ("fir", 12, 0, .3, .5)],
    [(236, 214, 190), (226, 200, 176), (178, 130, 92), (150, 104, 74), ("stripe", 7, 0, 0, .5),
     ("picture", 3, -.8, -.5, .4), ("sofa", 1, .1, .15, .6), ("rug", 1, .5, .7, .5), ("ball", 1, .3, .9, .1)],
    [(232, 206, 176), (250, 232, 204), (196, 160, 96), (150, 118, 70), ("maple", 7, 0, .2, .6),
     ("leaf", 60, .1, 1, .04)],
]


def draw_scene(size, rng):
    """Draw a scene without dogs, of size (width, height), with its things at random places."""
    (w, h), scene = size, SCENES[rng.integers(len(SCENES))]
    horizon = h * rng.uniform(.38, .6)
    rows = [np.interp(np.arange(h), [0, horizon, horizon + 1, h], band) for band in np.transpose(scene[:4])]
    image = Image.fromarray(np.tile(np.stack(rows, 1)[:, None], (1, w, 1)).astype(np.uint8))
    for kind, most, high, low, part in scene[4:]:
        for down in np.sort(rng.uniform(high, low, rng.integers(most // 2 + 1, most + 1))):  # far ones first
            x, y = rng.uniform(0, w), horizon + down * (h - horizon if down > 0 else horizon)
            unit = part * h * rng.uniform(.7, 1.2) * (.7 + .6 * max(down, 0))  # near things are bigger
            for shape, colour, corners in THINGS[kind]:
                corners = [x + c * unit if k % 2 == 0 else y - c * unit for k, c in enumerate(corners)]
                colour = colour or tuple(rng.integers(90, 256, 3).tolist())
                getattr(ImageDraw.Draw(image), shape)(corners, fill=colour)
    light = rng.normal(.97, .025, (h // 12, w // 12, 1)) * rng.normal(1, .03, 3)  # uneven, tinted light
    light = Image.fromarray((255 * light).clip(0, 255).astype(np.uint8)).resize(size, Image.BILINEAR)
    return ImageChops.multiply(image.filter(ImageFilter.BoxBlur(1)), light)


def shade(colour, factor):
    """Return the colour made darker (factor below 1) or lighter (above 1)."""
    return tuple(min(255, int(c * factor)) for c in colour)


def new_layer(colour, rng):
    """Return a layer of a dog: a silhouette, and paint it is cut from, so that markings may overlap it."""
    mask, paint = Image.new("L", CANVAS), Image.new("RGB", CANVAS, colour)
    return mask, paint, ImageDraw.Draw(mask), ImageDraw.Draw(paint), rng


def tube(layer, rows, colour, fur=0, mark=False, at=0, by=1):
    """Draw circles along a curve through the rows (x, y, radius); with `mark`, leave the silhouette alone.

    Points are complex numbers x + iy: times `by` scales and turns them, plus `at` moves them.
    """
    _, _, mask, paint, rng = layer
    rows, steps = np.array(rows, float), np.linspace(0, len(rows) - 1, 9 * len(rows) - 8)
    rows = np.stack([np.interp(steps, range(len(rows)), column) for column in rows.T])
    if rows.shape[1] > 10:  # a moving average rounds the corners
        padded = np.pad(rows, ((0, 0), (3, 3)), "edge")
        rows = sum(padded[:, k:k + rows.shape[1]] for k in range(7)) / 7
    point = ((rows[0] + 1j * rows[1]) * by + at) * UNIT
    x, y, r = point.real + CANVAS[0] / 2, FLOOR - point.imag, rows[2] * abs(by) * UNIT
    r = r * (1 + fur * rng.uniform(-1, 1, len(r)))
    for box in np.stack([x - r, y - r, x + r, y + r], 1).tolist():
        paint.ellipse(box, fill=colour)
        if not mark:
            mask.ellipse(box, fill=255)


def spots(layer, colour, count, radius):
    """Paint random spots over a layer."""
    for x, y, r in layer[4].uniform((-1.2, 0, .5 * radius), (1.2, 1.9, 1.2 * radius), (count, 3)):
        tube(layer, [(x, y, r)], colour, mark=True)


def flatten(layers):
    """Light every layer from above, lay it on those before with a soft shadow; return an RGBA image."""
    total = np.zeros((4, CANVAS[1] // 2, CANVAS[0] // 2), np.float32)  # colour times alpha, and alpha
    for dim, (mask, paint, *_) in zip((.84, 1, 1, 1), layers, strict=True):
        box = np.array(mask.getbbox() or (0, 0, 2, 2)) // 2 + (-12, -12, 12, 12)  # with room for the shadow
        x0, y0, x1, y1 = box.clip(0, np.tile(CANVAS, 2) // 2).tolist()
        mask, paint = (image.reduce(2, (2 * x0, 2 * y0, 2 * x1, 2 * y1)) for image in (mask, paint))
        alpha = np.asarray(mask, np.float32) / 255
        mask = mask.filter(ImageFilter.BoxBlur(5)).filter(ImageFilter.BoxBlur(5))
        soft = np.asarray(mask, np.float32) / 255
        slope = np.roll(soft, -5, 0) - np.roll(soft, 5, 0)  # above 0 near upper edges, below near lower
        light = dim * (.72 + .3 * soft + .38 * slope)
        colour = np.stack(paint.split()) * light + 22 * np.maximum(slope, 0)
        colour[2] += 24 * (1 - light)  # shadows are bluish
        under = total[:, y0:y1, x0:x1]
        under[:3] *= 1 - .3 * np.roll(soft, 3, 0)
        under *= 1 - alpha
        under += alpha * np.concatenate([colour, np.full_like(colour[:1], 255)])
    total[:3] *= 255 / np.maximum(total[3], 1)
    return Image.fromarray(np.ascontiguousarray(total.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))


def draw_head(back, layer, top, b, at, turn, front):
    """Draw the head of breed b round the complex point `at`; ears go behind it (back) or before it (top)."""
    m, place, pricked = b.muzzle, {"at": at, "by": b.head * np.exp(1j * turn)}, b.ears == "pricked"
    ear = EARS[b.ears][int(front)]
    if front:
        skull, jowl = [(-.22, .1, .92), (.22, .1, .92)], [(-.4, -.3, .62), (.4, -.3, .62)]
        muzzle, patch = [(-.14, -.42, .42), (.14, -.42, .42)], [(-.5, .15, .4), (-.7, .6, .5)]
        pale = [[(-.6, -.35, .42), (.6, -.35, .42)], [(0, -.2, .4), (0, .4, .16), (0, .9, .12)]]
        eyes, nose, mouth = [(-.42, .14), (.42, .14)], (0, -.24), [(-.34, -.56), (0, -.74), (.34, -.56)]
        ears = [(back if pricked else top, [(s * u, v, r) for u, v, r in ear]) for s in (-1, 1)]
    else:
        skull, jowl = [(0, 0, .97)], [(.3, -.2, .7), (.6 + m * .4, -.3, .5), (.6 + m, -.3, .4)]
        muzzle = [(.5, -.3, .46), (.6 + m * .4, -.3, .5), (.6 + m, -.3, .45)]
        patch, pale = [(.2, .3, .5), (-.2, .5, .6)], [[(-.1, -.6, .5), (.5, -.45, .5)]]
        eyes, nose, mouth = [(.42, .22)], (.88 + m, -.14), [(.8 + m, -.52), (.6 + m * .5, -.6), (.5, -.5)]
        ears = [(back, [(u + .42, v - .02, r * .9) for u, v, r in ear]), (top, ear)]
    tube(layer, skull, b.coat, b.fur / 2, **place)
    tube(layer, jowl, b.coat, b.fur / 2, **place)
    if b.marks == "spots":
        spots(layer, b.mark, 25, .03)
    for rows in {"blaze": pale, "saddle": pale, "patches": [patch]}.get(b.marks, []):
        tube(layer, rows, b.mark if rows is patch else b.face, mark=True, **place)
    tube(layer, muzzle, b.face, mark=not front, **place)
    for sheet, rows in ears:
        tube(sheet, rows, b.ear, **place)
        if pricked and (front or sheet is top):
            tube(sheet, [(u * .98, v - .08, r * .5) for u, v, r in rows], (214, 150, 140), mark=True, **place)
    tube(layer, [(u, v, .045) for u, v in mouth], BLACK, mark=True, **place)
    if front and layer[4].random() < .4:
        tube(layer, [(0, -.72, .13), (0, -.88, .14)], (232, 120, 128), **place)
    dots = [(*nose, .19, BLACK), (nose[0] - .02, nose[1] + .08, .05, (170, 165, 170))]
    for u, v in eyes:
        dots += [(u, v, .2, (130, 190, 230) if b.name == "Husky" else shade(b.belly, .62)),
                 (u + .01, v, .155, BLACK), (u + .06, v + .06, .06, (255, 255, 255))]
    for *row, colour in dots:
        tube(layer, [row], colour, **place)


def draw_leg(layer, b, x, top, phase, stride, hind, lift=0):
    """Draw a leg from the height `top` to a paw that swings by `stride` round x; the phase is in radians."""
    w, d, lean = .04 + .1 * b.deep, b.deep, stride * math.sin(phase)
    foot, lift = x + lean, lift + stride * .35 * max(0, math.cos(phase))
    paw = [(foot, w + lift, w), (foot + w, .75 * w + lift, .8 * w)]
    if hind:  # the knee points forwards and the hock backwards; elbow and wrist do the reverse
        knee, hock = (x + .04 + .5 * lean, .62 * top, .5 * d), (x - .05 + .8 * lean, .34 * top + lift, .9 * w)
    else:
        knee, hock = (x - .03 + .3 * lean, .6 * top, .34 * d), (x + .6 * lean, .32 * top + lift, .9 * w)
    tube(layer, [(x, top, (.55 + .17 * hind) * d), knee, hock, *paw], b.coat, b.fur / 2)
    tube(layer, [(u, v, 1.2 * w) for u, v, _ in (hock, *paw)], b.belly, mark=True)


def draw_dog(breed, rng):
    """Draw one dog of the breed in a random pose; return it as an RGBA image cut to its outline."""
    b, tint, lengths = breed, rng.uniform(.88, 1.06), ("leg", "body", "deep", "head", "muzzle")
    b = b._replace(**{key: getattr(b, key) * rng.uniform(.93, 1.07) for key in lengths},
                   **{key: shade(getattr(b, key), tint) for key in ("coat", "belly", "face", "ear")})
    back, torso, head, top = layers = [new_layer(b.coat, rng) for _ in range(4)]
    pose, d, swing = rng.choice(["walk", "sit", "front"], p=[.6, .2, .2]), b.deep, rng.uniform(-.25, .25)
    x, y = b.body / 2, b.leg + d  # of the shoulder
    hip_x, hip_y = -x, y + .1 * d
    if pose == "front":  # sits and looks at us; lengths in half depths of the chest
        x, y, hip_x, hip_y = 0, max(y, 2.2 * d), 0, d
        k, wag = y / d, rng.choice([-1, 1])
        tube(back, [(-wag * u, v, r) for u, v, r in TAILS[b.tail]], b.coat, b.fur, at=d * (.7 * wag + .5j))
        tube(torso, [(0, 1, 1.05), (0, k, .9), (0, k + 1, .6)], b.coat, b.fur, by=d)
        tube(torso, [(0, 1, .5), (0, k + .3, .55)], b.belly, b.fur, True, by=d)
        for s in (-1, 1):
            tube(torso, [(s, .6, .55), (1.15 * s, .3, .3)], b.coat, by=d)
            tube(torso, [(1.25 * s, .32, .32), (1.35 * s, .28, .32)], b.belly, by=d)
            tube(head, [(.5 * s, k, .35), (.45 * s, .5 * k, .32), (.45 * s, .34, .34)], b.coat, by=d)
            tube(head, [(.45 * s, .4 * k, .4), (.45 * s, .3, .4)], b.belly, mark=True, by=d)
        neck = complex(0, y + d + .55 * b.head)
    else:
        stride, phase = rng.uniform(.1, .5) * (b.leg + .1), rng.uniform(0, 2 * math.pi)
        lag = rng.choice([math.pi / 2, math.pi])  # from hind to fore leg: walk or trot
        if pose == "sit":
            y, hip_y, stride = max(y, min(.5 * b.body, .35) + d), .8 * d, .02
            hip_x = x - .8 * math.sqrt(max((.85 * b.body) ** 2 - (y - hip_y) ** 2, .06))
        tail = {"at": complex(hip_x - .6 * d, hip_y + .35 * d), "by": np.exp(1j * swing)}
        tube(back, TAILS[b.tail], b.coat, b.fur, **tail)
        tube(back, TAILS[b.tail][-2:], b.coat if b.marks == "plain" else b.belly, b.fur, True, **tail)
        draw_leg(back, b, x + .05, y, phase + math.pi + lag, stride, False, .03)
        mid_x, mid_y = (x + hip_x) / 2, (y + hip_y) / 2
        neck = complex(x + .3 * d + .1 * b.head, y + d + .75 * b.head)
        tube(torso, [(hip_x, hip_y, .88 * d), (mid_x, mid_y, .86 * d), (x, y, d)], b.coat, b.fur / 2)
        tube(torso, [(x, y + .1 * d, .9 * d), (neck.real, neck.imag, .66 * b.head)], b.coat, b.fur / 2)
        under = [(hip_x, hip_y - d, .4 * d), (mid_x, mid_y - d, .45 * d), (x + .3 * d, y - .6 * d, .5 * d)]
        chest = [(x + .9 * d, y + .2 * d, .45 * d), (neck.real + .07, neck.imag - .1, .07)]
        tube(torso, under + chest, b.belly, b.fur, True)
        draw_leg(torso, b, x - .03, y - .1 * d, phase + lag, stride, False)
        if pose == "walk":
            draw_leg(back, b, hip_x + .1, y, phase + math.pi, stride, True, .03)
            draw_leg(torso, b, hip_x, y, phase, stride, True)
        else:
            tube(torso, [(0, 0, .8), (.7, -.1, .5)], b.coat, at=complex(hip_x, hip_y), by=d)
            tube(torso, [(hip_x + .4 * d, .06, .06), (hip_x + 1.3 * d, .05, .055)], b.belly)
        if b.marks == "saddle":
            tube(torso, [(hip_x - .2, hip_y + .7 * d, .6 * d), (mid_x, mid_y + .5 * d, .75 * d),
                         (x - .02, y + .8 * d, .6 * d)], b.mark, 0, True)
        if b.marks == "patches":
            for at in (0, rng.uniform(.4, .7)):
                tube(torso, [(-.1, .1, .5 * d), (.05, 0, .6 * d)], b.mark, .1, True,
                     at=complex(hip_x + at * (x - hip_x), hip_y + at * (y - hip_y) + .3 * d))
    if b.marks == "spots":
        spots(torso, b.mark, 90, .04)
        spots(back, b.mark, 60, .035)
    if rng.random() < .4:  # a collar across the neck, along which y goes from 0 to 1
        colour = tuple(rng.integers(40, 240, 3).tolist())
        tube(torso, [(-.7, .42, .07), (0, .36, .07), (.7, .42, .07)], colour, mark=True,
             at=complex(x, y), by=(neck - complex(x, y)) / 1j)
    frontal = pose == "front" or rng.random() < .25
    draw_head(back, head, top, b, neck + .1 * b.head, rng.uniform(-.2, .2), frontal)
    dog = flatten(layers)
    return dog.crop(dog.getchannel("A").point(lambda a: 255 * (a > 100)).getbbox())


def draw_photo(seed, index):
    """Draw photo number `index` (0 or more), always the same for a seed.

    Returns (image, breed, boxes), a box (xmin, ymin, xmax, ymax) in pixels for each of its one or two dogs.
    """
    rng = np.random.default_rng([seed, index])
    breed, boxes, count = BREEDS[index % len(BREEDS)], [], 1 + (rng.random() < 1 / 8)
    w, h = int(rng.integers(216, 265)), int(rng.integers(164, 197))
    photo = draw_scene((w, h), rng)
    for number in range(count):
        dog = draw_dog(breed, rng)
        scale = min(w * .9 / count / dog.width, h * .84 / dog.height) * rng.uniform(.7, 1)
        dw, dh = int(dog.width * scale), int(dog.height * scale)
        dog = dog.resize((dw, dh), Image.LANCZOS)
        if rng.random() < .5:
            dog = dog.transpose(Image.FLIP_LEFT_RIGHT)
        x = int(np.clip((number + .5) * w / count - dw / 2 + rng.uniform(-.04, .04) * w, 0, w - dw))
        y = int(h * rng.uniform(.86, .98)) - dh
        shadow, ground = Image.new("L", (w, h)), (x + dw * .06, y + dh * .91, x + dw * .96, y + dh * 1.05)
        ImageDraw.Draw(shadow).ellipse(ground, fill=120)
        photo.paste((50, 45, 70), mask=shadow.filter(ImageFilter.BoxBlur(4)))
        photo.paste(dog, (x, y), dog)
        box = np.array([x, y, x + dw, y + dh]) + rng.integers((-2, -2, 0, 0), (1, 1, 3, 3))
        boxes.append(box.clip(0, (w, h, w, h)).tolist())
    return photo, breed, boxes


def draw_toys(root, count, seed=0):
    """Write `count` drawn photos and their annotations below `root`, an empty folder laid out as the Stanford Dogs.

    Photo k depends on k and the seed (0 or more) alone, so a larger count begins with the photos of a smaller one.
    """
    progress = Progress()
    for index in range(count):
        photo, breed, boxes = draw_photo(seed, index)
        wnid = f"n{BREEDS.index(breed) + 1:08d}"
        image, annotation = (root / kind / f"{wnid}-{breed.name}" for kind in ("Images", "Annotation"))
        image.mkdir(parents=True, exist_ok=True)
        annotation.mkdir(parents=True, exist_ok=True)
        photo.save(image / f"{wnid}_{index}.jpg", quality=90)
        text = f"<annotation>\n<size><width>{photo.width}</width><height>{photo.height}</height></size>\n"
        for x0, y0, x1, y1 in boxes:
            text += (f"<object><name>{breed.name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
                     f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n")
        (annotation / f"{wnid}_{index}").write_text(f"{text}</annotation>\n", encoding="utf-8")
        progress(f"{index + 1:,} of {count:,} photos drawn", last=index + 1 == count)
