# demo, dogs, ablation and test need nothing but python3 and make: they set up .venv themselves.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo dogs ablation figures test lint bench torture
.DELETE_ON_ERROR:

.venv/ready: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@

# From nothing to pictures: the dogs of pretrained.pt first, then a short training on toy dogs.
# Stopped, it goes on when run again; from the start: rm -r runs/demo
TOYS ?= 2048
STEPS ?= 8000
DEMO ?= runs/demo
demo: .venv/ready
	mkdir -p runs
	$(PY) sample.py --out runs/dogs-grid.png
	$(PY) sample.py --attention --out runs/dogs-attention.png
	$(PY) sample.py --gamma --out runs/dogs-gamma.png
	$(PY) sample.py --interpolate --out runs/dogs-interpolation.png
	$(PY) look.py --out runs/look.html
	test -d datasets/toy32-$(TOYS) || $(PY) data.py --toy $(TOYS) --size 32 --out datasets/toy32-$(TOYS)
	if test -f $(DEMO)/config.json; then to=--resume; else to=--out; fi; \
	$(PY) train.py $$to $(DEMO) --data datasets/toy32-$(TOYS) --steps $(STEPS) --width 32 --batch 16 --attn-at 8
	@echo "Trained before, on real dogs: runs/dogs-*.png, and runs/look.html, a page to click on in your browser."
	@echo "Trained just now, on toy dogs: the newest picture in $(DEMO)/samples/."

# The same recipe at a laptop's size; at train.py's: SIZE=
SIZE ?= --width 32 --batch 16 --attn-at 16
MINUTES ?= 60
DATA ?= datasets/dogs64

# An hour on a laptop.  Ctrl-C stops it; the same command goes on.  Less: make dogs MINUTES=10
dogs: .venv/ready
	if test -f runs/dogs/config.json; then to=--resume; else to=--out; fi; \
	$(PY) train.py $$to runs/dogs --data $(DATA) --steps 1000000 --minutes $(MINUTES) $(SIZE)
	$(PY) sample.py runs/dogs

# The experiment of section 4: the article's four variants with the same photos, z and first weights, for each seed.
# Ctrl-C stops it; the same command goes on, skips what is done, and ends with the report.
#   make ablation SEEDS="0 1 2" ABLATION_STEPS=5000 MORE="--sample-every 1000" ABLATION=runs/short
SEEDS ?= 0 1
ABLATION_STEPS ?= 30000
ABLATION ?= runs/ablation
ablation: .venv/ready
	trap 'exit 130' INT TERM; \
	for seed in $(SEEDS); do for variant in full no-attn no-gen-attn no-disc-attn; do \
		case $$variant in full) off=;; no-attn) off="--no-gen-attn --no-disc-attn";; *) off=--$$variant;; esac; \
		out=$(ABLATION)/$$variant-$$seed; \
		if test -f $$out/config.json; then to=--resume; else to=--out; fi; \
		$(PY) train.py $$to $$out --data $(DATA) --steps $(ABLATION_STEPS) --seed $$seed $$off $(SIZE) $(MORE) || exit; \
	done; done
	$(PY) -m experiment.report $(ABLATION)/*-[0-9]* --out $(ABLATION)/report.html

# The labelled pictures of README.md and docs/ that need nothing but pretrained.pt.
figures: .venv/ready
	$(PY) -m tools.figures

test: .venv/ready
	$(PY) -m pytest

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: .venv/ready
	$(PY) -m tools.bench

# A training killed 50 times, then ten minutes of bad options and broken files.
torture: .venv/ready
	$(PY) tools/torture.py
	$(PY) tools/fuzz.py
