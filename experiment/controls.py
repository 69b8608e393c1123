"""What if attention could not choose where to look?  Run any script with the attention of G replaced.

    python -m experiment.controls uniform train --data datasets/dogs64-train --out runs/uniform_1 --seed 1
    python -m experiment.controls uniform experiment.evaluate datasets/dogs64-test runs/uniform_1
    python -m experiment.controls gamma=0.5 sample --out half.png

- uniform: every position looks at all positions alike, so that it gets the mean of all values;
- identity: every position looks at itself alone, so that it gets its own value;
- gamma=F: the learned map, with gamma at F times what was learned; 0: no attention.

The parameters stay, and so does D's attention.  Judge and sample a run with the control that it was trained with: its
snapshots can't tell.  Its config.json does, as "code" of its own, and metrics.csv keeps figures of different controls
apart.
"""

import importlib.util
import runpy
import sys
from contextlib import suppress

import torch

import attention
import config
from common import UserError, run_script
from model import Generator


def zeros(query, key):
    """A map (B, N, N) of zeros for queries and keys (B, N, d).

    It is computed from them, so that their weights have a gradient, of zeros: torchrun averages those of all weights.
    """
    return 0 * query.sum(dim=2)[:, :, None] + 0 * key.sum(dim=2)[:, None, :]


def uniform(query, key):
    """An attention map (B, N, N): everything is looked at alike."""
    return zeros(query, key) + 1 / key.shape[1]


def identity(query, key):
    """An attention map (B, N, N): every position looks at itself."""
    return zeros(query, key) + torch.eye(key.shape[1], dtype=query.dtype, device=query.device)


def scaled(factor):
    """The learned attention, its result times a factor: the same as gamma times it."""
    attend = attention.attend_fast
    return lambda query, key, value: factor * attend(query, key, value)


def parse_control(text):
    """ "uniform" -> the functions of attention.py that it replaces, {name: function}.  Raises UserError."""
    if text in ("uniform", "identity"):  # attend takes the formula, so that the map replaced is the one used
        return {"attention_map": globals()[text], "attend_fast": attention.attend}
    with suppress(ValueError):
        if text.startswith("gamma="):
            return {"attend_fast": scaled(float(text[6:]))}
    raise UserError(f"{text}: not one of uniform, identity, gamma=0.5")


def replace_attention(control):
    """From now on every generator of this process has the attention that the control names; discriminators haven't."""
    replaced, forward, version = parse_control(control), Generator.forward, config.code_version
    learned = {name: getattr(attention, name) for name in replaced}

    def forward_with_control(*arguments, **options):
        vars(attention).update(replaced)
        try:
            return forward(*arguments, **options)
        finally:
            vars(attention).update(learned)

    def version_with_control():
        code = version()
        return code | {"sha256": f"{code['sha256']} {control}", "control": control}

    Generator.forward, Generator.control, config.code_version = forward_with_control, control, version_with_control


def main():
    if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    control, script = sys.argv[1:3]
    if not script.replace(".", "").isidentifier() or script.endswith(".py") or not importlib.util.find_spec(script):
        raise UserError(f"{script}: no script here; name one as train, sample or experiment.evaluate")
    replace_attention(control)
    sys.argv = sys.argv[2:]
    runpy.run_module(script, run_name="__main__")


if __name__ == "__main__":
    run_script(main)
