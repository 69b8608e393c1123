# demo and test need nothing but python3 and make: they set up .venv themselves.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test lint bench
.DELETE_ON_ERROR:

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# From nothing to pictures: drawn dogs, a short training at a small width, samples, attention maps, curves.
# Run it again with another OUT, or after deleting runs/demo.  Less: make demo PHOTOS=64 STEPS=20
PHOTOS ?= 2048
STEPS ?= 1500
OUT ?= runs/demo
demo: .venv/ready
	$(PY) data.py --toy $(PHOTOS)
	$(PY) train.py --data datasets/toy64 --out $(OUT) --steps $(STEPS) --width 16 --batch 32 --attn-at 16 --lr-g 4e-4
	$(PY) sample.py $(OUT)
	$(PY) sample.py $(OUT) --attention
	$(PY) sample.py $(OUT) --interpolate
	$(PY) report.py $(OUT)

test: .venv/ready
	$(PY) -m pytest

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: .venv/ready
	$(PY) tests/bench.py
