#!/usr/bin/env bash
# Does this project work on your GPU, and how fast?  All that needs one, in one command of about five minutes:
#
#     bash tools/cuda_check.sh                       sets up .venv first, as make does
#     PYTHON=python3 bash tools/cuda_check.sh        with a Python that has the packages: nothing is downloaded then
#     TESTS=tests bash tools/cuda_check.sh           with all tests; they take minutes more, and mostly use the CPU
#     DEVICE=cpu bash tools/cuda_check.sh            the same at tiny sizes without a GPU, to try this script
#
# It ends with a summary to paste into an issue.  If anything failed, the exit status is 1 and the logs are kept.
set -uo pipefail
[ -z "${PYTHON:-}" ] || PYTHON=$("$PYTHON" -c "import sys; print(sys.executable)") || exit  # its full path
cd "$(dirname "$0")/.." || exit
root=$PWD
if [ -z "${PYTHON:-}" ]; then
    make --quiet .venv/ready || exit
    PYTHON=$root/.venv/bin/python
fi
work=$(mktemp -d) || exit
summary=$work/summary.txt
failed=0
export DEVICE=${DEVICE:-cuda} PYTHONPATH=$root:$root/tests${PYTHONPATH:+:$PYTHONPATH}
TESTS=${TESTS-tests/test_attention.py tests/test_model.py tests/test_train.py}
if [ "$DEVICE" = cpu ]; then
    toys=40 steps=4 every=2 size="--width 8 --batch 4 --attn-at 8"
else
    toys=512 steps=200 every=100 size=  # train.py's own size; with fewer steps to a row, rows would cost time
fi

say() { echo "$*" | tee -a "$summary"; }

# check NAME SECONDS COMMAND...: run it; the lines that begin with "= " go to the summary.
check() {
    local name=$1 limit=$2 log=$work/$1.log begin=$SECONDS status
    shift 2
    timeout -k 10 "$limit" "$@" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        say "ok      $name ($((SECONDS - begin)) s)"
    else
        failed=1
        [ $status != 124 ] || echo "not done after $limit s" >>"$log"
        say "FAILED  $name (status $status): $(grep -v '^= ' "$log" | tail -n 1 | cut -c 1-300)"
    fi
    sed -n 's/^= /          /p' "$log" | tee -a "$summary"
}

py() { check "$1" "$2" "$PYTHON" -W ignore "$root/tools/cuda_check.py" "${@:3}"; }
# train NAME OPTION...: a training in the folder NAME.
train() { check "$1" 120 "$PYTHON" "$root/train.py" --data toys --out "$1" --device "$DEVICE" $size "${@:2}"; }

say "sagan-dogs $(git rev-parse --short HEAD 2>/dev/null), $(date -u +%F), device $DEVICE"
check versions 60 "$PYTHON" -c "
import sys, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(f'= Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}, GPUs: {gpus}')
print(len(gpus))
torch.empty(1, device='$DEVICE')"
gpus=$(tail -n 1 "$work/versions.log")
if [ $failed = 1 ]; then
    say "no device $DEVICE: nothing to check"
    exit 1
fi

cd "$work" || exit
py attention 60 attention
py penalty 60 penalty
py losses 90 losses
py steps 120 steps

check toys 60 "$PYTHON" "$root/data.py" --toy $toys --out toys
py fid-inputs 60 fid_inputs
runs=(full no-attn) fids=(fid.log)
train full --steps $steps --log-every $every
train no-attn --steps $steps --log-every $every --no-gen-attn --no-disc-attn
check fid 90 "$PYTHON" "$root/fid.py" c b --weights weights.pth --device "$DEVICE"
if [ "$gpus" -ge 2 ] || [ "$DEVICE" = cpu ]; then
    two=(-m torch.distributed.run --standalone --nproc-per-node 2)
    check two 120 "$PYTHON" "${two[@]}" "$root/train.py" --data toys --out two --device "$DEVICE" $size \
        --steps $steps --log-every $every
    check two-fid 90 "$PYTHON" "${two[@]}" "$root/fid.py" c b --weights weights.pth --device "$DEVICE"
    runs+=(two) fids+=(two-fid.log)
else
    say "left out: two processes, because there is one GPU"
fi
py logs 30 logs $steps $every "${runs[@]}"
py fid-value 30 fid_value "${fids[@]}"

train once --steps 4
train again --steps 4
train half --steps 2
check resume 120 "$PYTHON" "$root/train.py" --resume half --steps 4
py resumed 30 resumed once again half
check sample 60 "$PYTHON" "$root/sample.py" full --device "$DEVICE"
check sample-attention 60 "$PYTHON" "$root/sample.py" full --device "$DEVICE" --attention

cd "$root" || exit
if [ -z "$TESTS" ]; then
    say "left out: the tests, because TESTS is empty"
elif ! "$PYTHON" -c "import pytest" 2>/dev/null; then
    say "left out: the tests, because this Python has no pytest"
else
    check tests 600 "$PYTHON" -m pytest -p no:cacheprovider $TESTS
    say "          $(tail -n 1 "$work/tests.log")"
fi

say "$SECONDS s in all, $([ $failed = 0 ] && echo "nothing failed" || echo "something FAILED: logs in $work")"
echo
echo "---- please paste this ----"
cat "$summary"
[ $failed = 1 ] || rm -r "$work"
exit $failed
