"""The Frechet Inception Distance (section 3.4): how far apart are two sets of pictures?

    python fid.py real/ fake/                        FID of two folders of pictures, sub-folders included
    python fid.py real/ fake/ --kid                  also KID, for which a few hundred pictures are enough
    python fid.py --save-stats real/ real.npz        keep a folder's statistics (34 MB), which pytorch-fid reads, too
    python fid.py real.npz fake/                     either side may be such a file
    python fid.py real.npz runs/full                 or a run: each snapshot's FID, 5,000 pictures -> runs/full/fid.csv
    torchrun --nproc-per-node 2 fid.py real/ fake/   the pictures are shared out, and the numbers stay the same

The last line printed is "FID: 12.3456", pytorch-fid's number for folders of more than 2,048 pictures.  As there,
transparency is ignored.  But pytorch-fid reads fewer kinds of files (.jpg, no .JPG), and clips 16-bit grey.
Inception's weights (91 MB) are fetched once, to where torch.hub keeps such files.

The network is in inception.py, and the formulas are in distances.py.
"""

import hashlib
import json
import math
import re
import sys
import time
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist

from common import Parser, Progress, UserError, number, run_script
from data import list_images, open_picture, read_image
from distances import Moments, collect, factor, frechet_distance, gather, squared_mmd
from files import atomic_write
from inception import FEATURES, load_inception, resize
from parallel import init_processes, rank, world_size
from snapshots import find_snapshot, generate, latents, list_snapshots, load_generator

# Features -----------------------------------------------------------------------------------------------------


def read_picture(path):
    """A picture file -> (3, H, W), floats in [0, 1]; a large one at 299x299, or a batch of them would fill memory."""
    picture = torch.from_numpy(read_image(path)).permute(2, 0, 1).float() / 255
    return picture if picture[0].numel() <= 299**2 else resize(picture[None])[0]


def read_batches(paths, batch=48):
    """Batches (B, 3, H, W) of this process's share of the picture files; threads read the next ones meanwhile."""
    share = paths[rank() :: world_size()]
    with ThreadPool() as pool:
        ahead = pool.map_async(read_picture, share[:batch])
        for start in range(batch, len(share) + batch, batch):
            pictures = ahead.get()
            ahead = pool.map_async(read_picture, share[start : start + batch])
            if len({picture.shape for picture in pictures}) > 1:
                pictures = [resize(picture[None])[0] for picture in pictures]
            yield torch.stack(pictures)


def draw_batches(generator, z, batch=48):
    """Batches of this process's share of a generator's pictures of z (N, Z_DIM), as the files would hold them."""
    share = z[rank() :: world_size()]
    for start in range(0, len(share), batch):
        yield generate(generator, share[start : start + batch]).float() / 255


def features_of(batches, inception, name, count):
    """Yields the features (B, 2048) of batches of pictures.  `name`, `count`: the set's, for the progress."""
    progress, start, done, share = Progress(file=sys.stderr), time.monotonic(), 0, -(-count // world_size())
    for pictures in batches:
        yield inception(pictures)
        done += len(pictures)
        if rank() == 0:
            speed = done / (time.monotonic() - start)
            progress(f"{name}: {done:,} of {share:,} pictures, {speed:.1f} a second", last=done == share)


# The sides ----------------------------------------------------------------------------------------------------


def read_statistics(path):
    """Moments from an .npz; the count is None if it doesn't tell.  Raises UserError if it holds none."""
    try:
        with np.load(path) as file:
            mu, sigma = (np.asarray(file[name], dtype=np.float64) for name in ("mu", "sigma"))
            count = int(file["count"]) if "count" in file else None
    except Exception:  # numpy raises nearly anything
        what = "not a whole .npz with mu and sigma, as --save-stats writes it" if path.exists() else "no such file"
        raise UserError(f"{path}: {what}") from None
    if mu.shape != (FEATURES,) or sigma.shape != (FEATURES, FEATURES):
        raise UserError(f"{path}: mu {mu.shape} and sigma {sigma.shape} aren't mean and covariance of 2048 features")
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all() and np.allclose(sigma, sigma.T, atol=1e-6)):
        raise UserError(f"{path}: mu or sigma isn't finite, or sigma not symmetric")
    factor(sigma, path)
    return Moments(mu, sigma, count)


def picture_files(folder, fewest, count=None):
    """The picture files of a folder, or `count` of them.  Raises UserError if there are fewer than needed."""
    paths, fewest = list_images(folder), count or fewest
    if len(paths) < fewest:
        raise UserError(f"{folder}: has {len(paths)} pictures and needs {fewest} or more, better 10,000")
    # Evenly over the sorted names, because these often begin with a class: the first would be of few breeds.
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count or len(paths)).round().astype(int)]


def side_of(path):
    """The side in pixels of a square as large as a picture.  Raises UserError for a broken header, or a broken PNG."""
    with suppress(Exception), open_picture(path) as image:  # Pillow raises nearly anything
        image.verify()
        return math.sqrt(image.width * image.height)
    return math.sqrt(read_image(path)[..., 0].size)  # it has words for what is wrong


def run_distances(run, real, inception, device, seed, count):
    """FID of `count` pictures of each snapshot of a run, always of the same z: yields (step, FID) as it is measured.

    The run's fid.csv keeps them, so that none is measured twice.  Its last column is a fingerprint of the other side,
    of the seed and of Inception's weights; rows with another one or another count are replaced.
    """
    digest = hashlib.sha256(real.mu.tobytes() + real.sigma.tobytes() + b"%d" % seed)
    for weight in inception.state_dict().values():
        digest.update(weight.cpu().numpy().tobytes())
    file, fingerprint = run / "fid.csv", digest.hexdigest()[:12]
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    kept = re.findall(rf"^(\d+),{count},(\d+\.\d+),{fingerprint}$", text, re.MULTILINE)
    distances = {int(step): float(distance) for step, distance in kept}
    shared = [list_snapshots(run), distances]
    if dist.is_initialized():  # process 0's count, because a run that is still training goes on writing snapshots
        dist.broadcast_object_list(shared)
    paths, distances = shared
    for step in sorted(paths):
        if step not in distances:
            batches = draw_batches(load_generator(paths[step], device)[0], latents(seed, count))
            fake = collect(features_of(batches, inception, f"{run}, step {step:,}", count), FEATURES)
            distances[step] = round(frechet_distance(*real[:2], *fake[:2]), 4)
            if rank() == 0:
                rows = [f"{step},{count},{distances[step]:.4f},{fingerprint}\n" for step in sorted(distances)]
                with atomic_write(file) as temporary:
                    temporary.write_text("step,count,fid,fingerprint\n" + "".join(rows), encoding="utf-8")
        yield step, distances[step]


def main():
    parser = Parser(__doc__)
    add = parser.add_argument
    add("real", type=Path, help="a folder of pictures of any sizes, an .npz of statistics, or a run folder")
    add("fake", type=Path, help="the same; with --save-stats, the .npz to write")
    add("--save-stats", action="store_true", help="write the first folder's statistics to the second, and stop")
    add("--kid", action="store_true", help="print KID and its standard error, too; takes two folders")
    add("--count", type=number(int, 4), metavar="N", help="pictures of each side, evenly over the sorted files")
    add("--json", action="store_true", help="print one JSON object with all figures in place of lines")
    add("--weights", metavar="FILE", help="Inception's; default: pytorch-fid's, fetched once (91 MB)")
    parser.add_seed_and_device()
    options = parser.parse_args()
    real, fake, count = options.real, options.fake, options.count

    # What is wrong is told before weights are fetched and the network is at work.
    runs = [side for side in (real, fake) if (side / "config.json").exists() or (side / "snapshots").is_dir()]
    if len(runs) > 1 or (runs and options.save_stats):
        raise UserError(f"{runs[0]} is a run: compare it with a folder of photos, or with their .npz")
    if options.kid and (runs or options.save_stats):
        raise UserError("--kid compares the pictures of two folders")
    if options.save_stats and (fake.suffix.lower() != ".npz" or fake.exists() or not fake.parent.is_dir()):
        raise UserError(f"--save-stats {fake}: name a new file that ends in .npz, in a folder that is there")
    moments, folders = {}, {}
    for side in [real] if options.save_stats else [side for side in (real, fake) if side not in runs]:
        if side.suffix.lower() == ".npz" and not side.is_dir():
            moments[side] = read_statistics(side)
            if options.kid or (count and not runs and count != moments[side].count):  # of a run, count the pictures
                raise UserError(f"--kid and --count need a folder of pictures, and {side} is an .npz")
        else:
            folders[side] = picture_files(side, 4 if options.kid else 2, count)
    with ThreadPool() as pool:
        pixels = [median(pool.map(side_of, paths)) for paths in folders.values()]
    pixels += [generate(load_generator(find_snapshot(run))[0], latents(0, 1)).shape[-1] for run in runs]
    device = init_processes(options.device)
    if rank() == 0 and pixels and max(pixels) > 1.1 * min(pixels):
        sizes = " against ".join(f"{side:.0f}" for side in pixels)
        print(f"warning: pictures of {sizes} pixels: FID tells how they were resized, too", file=sys.stderr)
    inception = load_inception(options.weights, device) if folders or runs else None

    features = {}
    for side, paths in folders.items():
        batches = features_of(read_batches(paths), inception, side, len(paths))
        if options.kid:
            batches = features[side] = [part.cpu() for part in batches]  # 8 kB a picture
        moments[side] = collect(batches, FEATURES)
    say, result = (lambda _: None) if options.json else print, {"real": str(real), "fake": str(fake)}
    for name, side in (("real", real), ("fake", fake)):
        if side in moments:
            result[f"{name}_count"] = moments[side].count
            say(f"{side}: {moments[side].count or 'an unknown number of'} pictures")
    if options.save_stats:
        if rank() == 0:
            with atomic_write(fake) as temporary, open(temporary, "wb") as file:
                np.savez(file, **moments[real]._asdict())  # mu and sigma, as pytorch-fid reads them, and count
    else:
        if rank() == 0 and any(side.count and side.count <= FEATURES for side in moments.values()):
            advice = "compare equal counts, or two folders with --kid"
            print(f"warning: with so few pictures FID is too high: {advice}", file=sys.stderr)
        if options.kid:
            result["kid"], result["kid_error"] = squared_mmd(gather(features[real]), gather(features[fake]))
            say(f"KID: {result['kid']:.6f} +- {result['kid_error']:.6f}")
        if runs:
            (others,) = moments.values()
            for step, result["fid"] in run_distances(*runs, others, inception, device, options.seed, count or 5000):
                result.setdefault("steps", {})[step] = result["fid"]
                say(f"step {step}: FID {result['fid']:.4f}")
        else:
            result["fid"] = frechet_distance(*moments[real][:2], *moments[fake][:2])
        say(f"FID: {result['fid']:.4f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    run_script(main)
