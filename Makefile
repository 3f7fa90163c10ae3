# Everything a developer runs. Needs Python 3.11, git and make; the rest is installed into .venv through constraints.txt.

PYTHON ?= python3.11
ARGS ?=
JOBS ?= 2
OUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROBOT_VENV := .venv-robot
ROBOT_STAMP := $(ROBOT_VENV)/.installed
CONSTRAINED := install --quiet --constraint constraints.txt
# Building from source (our own package included) uses the pinned setuptools too.
FROM_SOURCE := $(CONSTRAINED) --build-constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test test-again test-slow lint format format-check types robot-venv peers check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv with everything, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip $(CONSTRAINED) --upgrade pip setuptools wheel
	$(BIN)/python -m pip $(FROM_SOURCE) --editable '.[all,dev]'
	touch $@

demo: $(STAMP)  ## the whole way on the built-in arm (ARGS=--short for the quick one, OUT=folder)
	$(BIN)/understudy demo --out $(OUT) $(ARGS)

# Two files at a time, each file's tests together, because they share what they set up. Tests on a ROS 2 graph keep time
# with the wall clock, so nothing else runs beside them. Nothing chosen in one of the two (pytest's 5) is no failure.
test: $(STAMP)  ## the tests (ARGS="-k guard" to choose, JOBS=1 for one at a time)
	failed=0; \
	$(BIN)/python -m pytest -m 'not slow and not ros' --numprocesses $(JOBS) --dist loadfile $(ARGS) || test $$? -eq 5 || failed=1; \
	$(BIN)/python -m pytest -m 'ros and not slow' $(ARGS) || test $$? -eq 5 || failed=1; \
	exit $$failed

test-again: $(STAMP)  ## what failed last time, one at a time
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-slow: $(STAMP)  ## the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP)  ## look for mistakes
	$(BIN)/ruff check

format: $(STAMP)  ## lay out the code
	$(BIN)/ruff format
	$(BIN)/ruff check --select I --fix

format-check: $(STAMP)  ## is the code laid out?
	$(BIN)/ruff format --check

# mypy cannot follow the rooms in an editable install, so it reads the wheel, unpacked. Old build output goes first:
# setuptools would pack modules that are no longer there.
types: $(STAMP)  ## check the types, strictly
	rm -rf build/lib build/bdist.* build/wheel build/types
	$(BIN)/python -m pip wheel --quiet --no-deps --build-constraint constraints.txt --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target build/types build/wheel/understudy-*.whl
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p understudy

$(ROBOT_STAMP): pyproject.toml constraints.txt
	test -x $(ROBOT_VENV)/bin/python || $(PYTHON) -m venv $(ROBOT_VENV)
	$(ROBOT_VENV)/bin/python -m pip $(CONSTRAINED) --upgrade pip setuptools wheel
	$(ROBOT_VENV)/bin/python -m pip $(FROM_SOURCE) --editable '.[robot,ros]' pytest pytest-timeout
	touch $@

robot-venv: $(ROBOT_STAMP)  ## the robot side, tested where torch and pybullet are not installed
	UNDERSTUDY_ROBOT_VENV=1 $(ROBOT_VENV)/bin/python -m pytest --confcutdir tests/robot_side tests/robot_side

# Other people's libraries, which tests have read our files and benchmarks compare with: each in an environment of its
# own, at the versions of benchmarks/peers/NAME.txt (complete lists, so nothing else is pulled in). A folder of that name
# holds empty stand-ins for modules that they import and we have no use for.
PEERS := robomimic minari lerobot panda_gym

peers: $(PEERS:%=.peers/%/.installed)  ## robomimic, minari, lerobot and panda-gym, for the tests and benchmarks that need them

.peers/%/.installed: benchmarks/peers/%.txt
	test -x .peers/$*/bin/python || $(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --no-deps --requirement $<
	test ! -d benchmarks/peers/$* || cp -r benchmarks/peers/$*/. $$(.peers/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	touch $@

check: lint format-check types test  ## what a change must pass

clean:  ## remove environments and everything built
	rm -rf $(VENV) $(ROBOT_VENV) .peers build dist *.egg-info demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
