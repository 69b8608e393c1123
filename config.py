"""The options of a run: completed, checked against the run that goes on, and kept in its config.json."""

import hashlib
import json
import subprocess
from contextlib import suppress
from pathlib import Path

import torch

from common import UserError
from files import load_checkpoint
from model import resolutions
from parallel import world_size

# What may differ when a run goes on: what changes nothing in it, and what somebody may turn by hand on the way.
CHANGEABLE = {"resume", "out", "data", "device", "steps", "minutes", "log_every", "sample_every"}
TUNABLE = {"lr_g", "lr_d", "r1", "translation", "ema"}


def complete_options(parser, arguments=None):
    """Parse the options; those that were not given come from the run to resume, or from the others.

    Raises UserError where an option contradicts the run to resume, or where the folder to write is not empty.
    """
    options = parser.parse_args(arguments)
    if options.resume:
        if options.out not in (None, options.resume):
            raise UserError(f"--resume goes on in {options.resume}: leave --out out")
        before = kept_config(options.resume)["options"]
        if differing := before.keys() ^ vars(options).keys():
            raise UserError(f"{options.resume} is of another version of train.py ({', '.join(sorted(differing))})")
        parser.set_defaults(**{key: value for key, value in before.items() if key != "minutes"})
        options = parser.parse_args(arguments)
        for key, value in before.items():
            if key not in CHANGEABLE | TUNABLE and getattr(options, key) != value:
                name = f"--{key.replace('_', '-')}"
                raise UserError(f"{options.resume} was begun with {name} {value}: leave {name} out")
        options.out = options.resume
    options.precision = options.precision or ("bf16" if has_bfloat16(options.device) else "fp32")
    # At twice the width half the rates: 8e-4 at width 32 and 4e-4 at width 64 trained, 8e-4 at width 64 did not.
    options.lr_g, options.lr_d = (0.0256 / options.width if x is None else x for x in (options.lr_g, options.lr_d))
    options.out = options.out or Path("runs") / variant(options)
    if not options.data.is_dir():
        raise UserError(f"{options.data}: no such folder; `python data.py` makes one, --data (make: DATA=) others")
    if not options.resume and options.out.is_dir() and any(p.name[0] != "." for p in options.out.iterdir()):
        raise UserError(f"{options.out} isn't empty: go on with --resume {options.out}, or choose another --out")
    return options


def place_attention(options, size):
    """Complete `attn_at` for pictures of size x size.  Raises UserError where the networks have no such maps."""
    if size not in (32, 64, 128):
        raise UserError(f"{options.data}: pictures of {size}x{size}; take 32, 64 or 128 (data.py --size)")
    # At 64x64 only if asked for, because a map of 64x64 positions takes 16 times the memory of one of 32x32.
    options.attn_at = options.attn_at or [min(32, size // 2)]
    for r in options.attn_at:
        if r not in resolutions(size):
            raise UserError(f"--attn-at: no attention at {r}x{r}, there are feature maps at {resolutions(size)}")


def variant(options):
    """The article's name for a choice of attention, which names the run folder too."""
    if options.no_gen_attn:
        return "no-attn" if options.no_disc_attn else "no-gen-attn"
    return "no-disc-attn" if options.no_disc_attn else "full"


def has_bfloat16(device):
    """Whether the device computes in bfloat16 faster than in float32."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    features = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.7 and older can't tell
    return device == "cpu" and bool(features.get("avx512_bf16") or features.get("amx_bf16"))


# config.json --------------------------------------------------------------------------------------------------


def make_config(options, photos):
    """What config.json holds: the options, and what else decides what the run computes.  photos: (N, 3, S, S)."""
    return {
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "size": photos.shape[-1],
        "photos": len(photos),
        "photos_sha256": hashlib.sha256(photos.numpy()).hexdigest(),
        "code": code_version(),
        "torch": str(torch.__version__),
        "device": options.device,
        "processes": world_size(),
        "changes": [],  # of options, code or processes, and from which step on
    }


def code_version():
    """The commit, whether files were changed since, and a fingerprint of those that decide what a run computes."""
    here = Path(__file__).resolve().parent

    def git(*command):
        with suppress(OSError):  # there may be no git
            return subprocess.run(["git", "-C", here, *command], capture_output=True, text=True).stdout.strip()

    code = b"".join((here / name).read_bytes() for name in ("attention.py", "model.py", "parallel.py", "train.py"))
    return {
        "commit": git("rev-parse", "--short", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
        "sha256": hashlib.sha256(code).hexdigest()[:12],
    }


def list_changes(before, now, step):
    """What differs between two configs of a run, in lines such as "step 4,000: lr_g 0.0004 -> 0.0001"."""
    old, new = (
        {name: config["options"][name] for name in sorted(TUNABLE)}
        | {"code": config["code"]["sha256"], "processes": config["processes"]}
        for config in (before, now)
    )
    return [f"step {step:,}: {name} {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]


def sound(config):
    """The config, if it has what every run's has.  Raises KeyError or TypeError if not."""
    config["options"] | {}  # a TypeError if it is no table
    config["size"], config["photos"], config["photos_sha256"]
    return config


def read_config(folder):
    """The config.json of a run: options, size, photos, ...  Raises UserError if the folder holds no run."""
    try:
        return sound(json.loads((folder / "config.json").read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{folder}: no run to read there (config.json: {reason})") from None


def kept_config(folder):
    """The config in a run's checkpoint, whatever was done to config.json; before there is one, that file's."""
    path = folder / "checkpoint.pt"
    try:
        return sound(load_checkpoint(path)["config"]) if path.exists() else read_config(folder)
    except (KeyError, TypeError):
        raise UserError(f"{path}: no checkpoint of train.py") from None


def is_of(snapshot, config):
    """Whether a snapshot comes from the run with this config: all that can't change in a run is the same."""
    fixed = config["options"].keys() - CHANGEABLE - TUNABLE
    try:
        options = sound(load_checkpoint(snapshot)["config"])["options"]
    except (UserError, KeyError, TypeError):
        return True  # one that can't be read tells nothing
    return all(options.get(key) == config["options"][key] for key in fixed)
