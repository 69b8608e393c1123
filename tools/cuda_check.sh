#!/usr/bin/env bash
# All that was never run on a GPU, in one command of less than ten minutes:
#
#     bash tools/cuda_check.sh                       from a fresh clone; sets up .venv
#     PYTHON=python3 bash tools/cuda_check.sh        with an environment that you have
#     DEVICE=cpu bash tools/cuda_check.sh            the same at tiny sizes, to try this script
#     TESTS="" bash tools/cuda_check.sh              without the test suite, which takes most of the time
#
# It ends with a summary to paste; please do. Nothing is downloaded but packages. Exit status 1 if anything failed.
set -uo pipefail
[ -z "${PYTHON:-}" ] || PYTHON=$("$PYTHON" -c "import sys; print(sys.executable)") || exit  # its full path
cd "$(dirname "$0")/.." || exit
ROOT=$PWD
DEVICE=${DEVICE:-cuda}
if [ -z "${PYTHON:-}" ]; then
    make --quiet .venv/ready || exit
    PYTHON=$ROOT/.venv/bin/python
fi
OUT=$(mktemp -d)
SUMMARY=$OUT/summary.txt
FAILED=0
export DEVICE PYTHONPATH=$ROOT:$ROOT/tests
if [ "$DEVICE" = cpu ]; then
    TESTS=${TESTS-tests/test_attention.py} TOYS=40 STEPS=8 SIZE="--width 8 --batch 8" PRECISION=bf16
else
    TESTS=${TESTS-tests} TOYS=512 STEPS=200 SIZE="--width 64 --batch 64" PRECISION=bf16
fi
SIZE="$SIZE --device $DEVICE --log-every 2"

say() { echo "$*" | tee -a "$SUMMARY"; }

# check NAME SECONDS COMMAND...: run it; the lines that begin with "= " go to the summary.
check() {
    local name=$1 limit=$2 log=$OUT/$1.log begin=$SECONDS status
    shift 2
    timeout -k 10 "$limit" "$@" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        say "ok      $name ($((SECONDS - begin)) s)"
    else
        FAILED=1
        [ $status != 124 ] || echo "not done after $limit s" >>"$log"
        say "FAILED  $name (status $status): $(grep -v '^= ' "$log" | tail -n 1 | cut -c 1-300)"
    fi
    sed -n 's/^= /          /p' "$log" | tee -a "$SUMMARY"
}

py() { check "$1" "$2" "$PYTHON" -W ignore "$ROOT/tools/cuda_check.py" "${@:3}"; }
train() { check "$1" 180 "$PYTHON" "$ROOT/train.py" --data toys --precision $PRECISION $SIZE "${@:2}"; }

say "sagan-dogs $(git rev-parse --short HEAD 2>/dev/null), $(date -u +%F), device $DEVICE"
check versions 60 "$PYTHON" -c "
import sys, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(f'= Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}, GPUs: {gpus}')
torch.empty(1, device='$DEVICE')"
GPUS=$("$PYTHON" -c "import torch; print(torch.cuda.device_count())")
if [ $FAILED = 1 ]; then
    say "no device $DEVICE: nothing to check"
    exit 1
fi

cd "$OUT" || exit
py attention 60 attention
py penalty 60 penalty
py losses 120 losses
py speed 120 speed

check toys 120 "$PYTHON" "$ROOT/data.py" --toy $TOYS --out toys
train full --out full --steps $STEPS
py full-log 30 log full $STEPS
train no-attn --out no-attn --steps $STEPS --no-gen-attn --no-disc-attn
py no-attn-log 30 log no-attn $STEPS
train full-again --out again --steps $STEPS
train half --out half --steps $((STEPS / 2))
check resume 180 "$PYTHON" "$ROOT/train.py" --resume half --steps $STEPS
py half-log 30 log half $STEPS
py resumed 30 resumed full again half
check sample 60 "$PYTHON" "$ROOT/sample.py" full --device "$DEVICE"
check sample-attention 60 "$PYTHON" "$ROOT/sample.py" full --device "$DEVICE" --attention

py fid-inputs 60 fid_inputs
check fid 120 "$PYTHON" "$ROOT/fid.py" c b --weights weights.pth --device "$DEVICE"
py fid-value 30 fid_value fid.log
if [ "$GPUS" -ge 2 ] || [ "$DEVICE" = cpu ]; then
    TWO=(-m torch.distributed.run --standalone --nproc-per-node 2)
    check two-train 180 "$PYTHON" "${TWO[@]}" "$ROOT/train.py" --data toys $SIZE --out two --steps $STEPS
    py two-log 30 log two $STEPS
    check two-fid 120 "$PYTHON" "${TWO[@]}" "$ROOT/fid.py" c b --weights weights.pth --device "$DEVICE"
    py two-fid-value 30 fid_value fid.log two-fid.log
else
    say "left out: two processes, as there is one GPU"
fi

cd "$ROOT" || exit
if [ -n "$TESTS" ]; then
    check tests 400 "$PYTHON" -m pytest -p no:cacheprovider $TESTS
    say "          $(tail -n 1 "$OUT/tests.log")"
fi

say "$((SECONDS)) s in all, $([ $FAILED = 0 ] && echo "nothing failed" || echo "something FAILED: logs in $OUT")"
echo
echo "---- please paste this ----"
cat "$SUMMARY"
[ $FAILED = 1 ] || rm -r "$OUT"
exit $FAILED
