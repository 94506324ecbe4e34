# make demo             segments a short clip that the package renders itself, through real ROS 2 processes
# make demo VIDEO=FILE  segments a video of yours
# make test             runs the test suite in two processes; PYTEST_ARGS="-k name" for a part of it
# make benchmark        measures on a quiet machine; BENCHMARK_ARGS="--patience 600" waits for one
# make soak             the node for an hour with faults: memory, threads, pace; SOAK_MINUTES=30 for half of one
# make fuzz             33,000 hostile messages, pictures, packets, bags and files; FUZZ_ARGS="--seed 1" for others
# make audit            looks the pinned dependencies up in PyPI's database of advisories (needs the network)
# make lint             ruff, mypy on the core, codespell
# make clean            removes everything that these commands have made
#
# Everything happens in .venv with the versions of constraints.txt. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
SETUP := $(PYTHON) tools/setup_environment.py
BIN := .venv/bin
# Tests with a ROS graph run one after the other all the same (test/conftest.py); 0 runs everything in pytest's process.
PYTEST_PROCESSES ?= 2

# .venv has a ROS 2 of its own. What a sourced distribution, or Python from another environment with ROS wheels, has
# set would put a second one before it.
ifneq ($(ROS_DISTRO)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE),)
unexport LD_LIBRARY_PATH
endif
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME VIRTUAL_ENV
unexport ROS_DISTRO ROS_PYTHON_VERSION ROS_VERSION _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: demo test benchmark soak fuzz audit lint environment colcon-environment ray clean
.DELETE_ON_ERROR:

demo: environment
	@$(BIN)/tdnet-ros demo $(if $(VIDEO),--video "$(VIDEO)")

test: environment
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(PYTEST_PROCESSES) $(PYTEST_ARGS)

benchmark: environment
	@for name in face transport conversion step; do $(BIN)/python -m benchmarks.$$name $(BENCHMARK_ARGS) || exit; done

soak: environment
	@$(BIN)/python -m benchmarks.soak $(if $(SOAK_MINUTES),--minutes $(SOAK_MINUTES)) $(SOAK_ARGS)

fuzz: environment
	@$(BIN)/python test/fuzz.py $(FUZZ_ARGS)

audit: .venv-audit/.installed
	@.venv-audit/bin/python tools/audit.py .venv-audit/bin/python

.venv-audit/.installed:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@touch $@

lint: environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

environment: .venv/.installed

.venv/.dependencies: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt install python3"; exit 1; }
	@$(SETUP) dependencies
	@touch $@

.venv/.installed: .venv/.dependencies setup.py $(wildcard tools/*.py msg/* resource/*/* launch scripts config) package.xml \
		test/interfaces/setup.py $(wildcard test/interfaces/*/msg/*)
	@$(SETUP) package
	@touch $@

# For test_colcon_build.py, which is skipped without it.
colcon-environment: .venv-colcon/.installed

.venv-colcon/.installed: test/colcon_requirements.txt constraints.txt
	@$(SETUP) colcon
	@touch $@

# For a test of test_fleet.py, which is skipped without it.
ray: environment
	@$(BIN)/python -c "import ray" 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt ray

clean:
	rm -rf .venv .venv-colcon .venv-audit build dist tdnet_ros.egg-info test/interfaces/*.egg-info tdnet_ros/msg tdnet_ros/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache demo_output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
