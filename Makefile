# demo and test need nothing but python3 and make: they set up .venv themselves.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo dogs ablation test torture lint bench
.DELETE_ON_ERROR:

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# From nothing to pictures: drawn dogs, a short training at a small width, samples, attention maps, curves.
# Stopped, it goes on when run again; anew with another OUT, or after rm -r runs/demo.  Less: make demo PHOTOS=64 STEPS=20
PHOTOS ?= 2048
OUT ?= runs/demo
demo: .venv/ready
	if test -f $(OUT)/config.json; then $(PY) train.py --resume $(OUT) --steps $(or $(STEPS),1500); \
	else $(PY) data.py --toy $(PHOTOS) && \
		$(PY) train.py --data datasets/toy64 --out $(OUT) --steps $(or $(STEPS),1500) --width 16 --batch 32 \
		--attn-at 16 --lr-g 4e-4 --logit-gain 5 --modulate --shift 0; fi
	$(PY) sample.py $(OUT)
	$(PY) sample.py $(OUT) --attention
	$(PY) sample.py $(OUT) --interpolate
	$(PY) report.py $(OUT)

# An hour on a laptop: real dogs if `python data.py` has made datasets/dogs64, drawn ones if not.  Stop it with Ctrl-C
# whenever the pictures in runs/dogs/samples/ please; the same command goes on for another hour with the same photos.
# Less: make dogs MINUTES=10.  From the start, as after `python data.py`: rm -r runs/dogs
MINUTES ?= 60
# (The experiment below was made before --modulate was there, and stays without.)
LAPTOP := --width 32 --batch 16 --attn-at 16 --lr-g 4e-4 --lr-d 8e-4 --logit-gain 5 --sample-every 2500
dogs: .venv/ready
	if test -f runs/dogs/config.json; then $(PY) train.py --resume runs/dogs --minutes $(MINUTES); \
	else { test -d datasets/dogs64 || $(PY) data.py --toy $(PHOTOS); } && \
		$(PY) train.py --out runs/dogs --steps 1000000 --minutes $(MINUTES) $(LAPTOP) --modulate \
		--data $$(test -d datasets/dogs64 && echo datasets/dogs64 || echo datasets/toy64); fi
	$(PY) sample.py runs/dogs

# The experiment of section 4: the article's four variants with the same photos, z and first weights, for each seed.
# Stop it with Ctrl-C; the same command goes on, skips what is done, and ends with the report.
#   make ablation SEEDS="0 1 2" STEPS=30000 DATA=datasets/dogs64 MORE="--fid-every 1000"
SEEDS ?= 0
DATA ?= datasets/dogs64
ABLATION ?= runs/ablation
MORE ?=
ablation: .venv/ready
	trap 'exit 130' INT TERM; \
	for seed in $(SEEDS); do for variant in full no-attn no-gen-attn no-disc-attn; do \
		case $$variant in full) off=;; no-attn) off="--no-gen-attn --no-disc-attn";; *) off=--$$variant;; esac; \
		out=$(ABLATION)/$$variant-$$seed; \
		if test -f $$out/config.json; then to=--resume; else to=--out; fi; \
		$(PY) train.py $$to $$out --data $(DATA) --steps $(or $(STEPS),5000) --seed $$seed $$off $(LAPTOP) $(MORE) || exit; \
	done; done; \
	$(PY) report.py $(ABLATION)/*-[0-9]* --out $(ABLATION)/report.html

test: .venv/ready
	$(PY) -m pytest

# A training killed 50 times, then 20 minutes of bad options and broken files: half an hour in all.
torture: .venv/ready
	$(PY) tests/torture.py
	$(PY) tests/fuzz.py

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: .venv/ready
	$(PY) tests/bench.py
