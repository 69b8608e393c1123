"""Write the generator of a snapshot to a small file, in half precision: python -m tools.export SNAPSHOT OUT"""

from pathlib import Path

from common import Parser, UserError, run_script
from files import load_checkpoint, save_checkpoint
from snapshots import load_generator


def export(path, out):
    """Write the snapshot at `path` to the new file `out`, half its size and without the paths in its options."""
    if out.exists():
        raise UserError(f"{out} is there already: choose another name")
    snapshot = load_checkpoint(path)
    load_generator(path)  # is it one?
    half = {k: v.half() if v.is_floating_point() else v for k, v in snapshot["generator_ema"].items()}
    options = {k: v for k, v in snapshot["config"]["options"].items() if not isinstance(v, str)}
    config = {"size": snapshot["config"]["size"], "options": options}
    save_checkpoint(out, {"generator_ema": half, "step": snapshot["step"], "config": config})
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def main():
    parser = Parser(__doc__)
    parser.add_argument("snapshot", type=Path, help="a .pt file in a run's snapshots/")
    parser.add_argument("out", type=Path, help="the file to write")
    options = parser.parse_args()
    export(options.snapshot, options.out)


if __name__ == "__main__":
    run_script(main)
