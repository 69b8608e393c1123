"""What if attention could not choose where to look?  Run any script with the attention of G replaced.

    python -m experiment.controls uniform train --data datasets/dogs64-train --out runs/uniform-1 --seed 1
    python -m experiment.controls uniform experiment.evaluate datasets/dogs64-test runs/uniform-1
    python -m experiment.controls gamma=0.5 sample --out half.png

- uniform: every position gets the mean of all values;
- identity: every position gets its own value;
- gamma=F: the learned map, with gamma at F times what was learned; 0: no attention.

The parameters stay, and D's attention stays as it is.  Nothing of this is written into a run's config.json: name the
folder after it, and judge a run with the control that it was trained with.
"""

import runpy
import sys

import attention
from common import UserError, run_script
from model import Generator


def uniform(query, key, value):
    return value.mean(dim=1, keepdim=True).expand_as(value)  # (B, N, C)


def identity(query, key, value):
    return value


def scaled(factor):
    """The learned attention, its result times a factor: the same as gamma times it."""
    attend = attention.attend_fast
    return lambda query, key, value: factor * attend(query, key, value)


def replace_attention(attend):
    """From now on every generator in this process mixes the values by `attend`; discriminators don't."""
    learned, forward = attention.attend_fast, Generator.forward

    def forward_with_control(self, z):
        attention.attend_fast = attend
        try:
            return forward(self, z)
        finally:
            attention.attend_fast = learned

    Generator.forward = forward_with_control


def main():
    if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    control, script = sys.argv[1:3]
    try:
        name, _, factor = control.partition("=")
        attend = scaled(float(factor)) if name == "gamma" else {"uniform": uniform, "identity": identity}[control]
    except (KeyError, ValueError):
        raise UserError(f"{control}: not one of uniform, identity, gamma=0.5") from None
    replace_attention(attend)
    sys.argv = sys.argv[2:]
    runpy.run_module(script, run_name="__main__")


if __name__ == "__main__":
    run_script(main)
