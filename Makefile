# make demo · test · lint · speed: each sets up its own .venv on a fresh machine (Linux, macOS).
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
TESTS  := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --maxprocesses 8
READY  := $(VENV)/.ready

.PHONY: demo test slow speed lint clean

demo: $(READY)
	$(RUN) -m fouroptics demo

test: $(READY)
	$(TESTS)

slow: $(READY)
	$(TESTS) -m "slow or not slow" --hypothesis-profile=slow

speed: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[speed]"
	$(RUN) -m tests.speed

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) tests/typecheck.py

$(READY): pyproject.toml constraints.txt
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python's venv is missing: install it (Debian, Ubuntu: apt install python3-venv) and run make again"; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist runs *.egg-info
