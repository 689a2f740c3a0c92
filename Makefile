# make tables    set up, run the grid of CONFIG, print the main table        make quick   the small grid
# make report    results/.../report.html of a grid that has been run (CONFIG): one page that opens anywhere
# make results   results/README.md from finished grids (CONFIGS="config.yaml config/shown.yaml"), with their figures
# make docs      results/site/index.html: a site of the texts of this project, to be opened from disk
# make archive   the finished runs of CONFIGS without their weights, with their FLOPs and times, into the folder that each names as `archive:`
# make test      set up, run the whole test suite                             make lint    formatters and linters
# make test-slurm  the workflow through a real SLURM of one host, and its jobs killed; root of a Debian gets it installed
# make rehearsal the paper's grids whole on stand-ins for weights and corpora, and a check of all they make; results/rehearsal
# make test-gpu  at most eight minutes on a GPU, into results/gpu/DEVICE.json: PYTHON=... whose torch has CUDA (envs/ pins a CPU's)
# make bench     speed of the trained runs of CONFIG against their encoder and the machine: a table, results/bench.json
# make tune      the trials of SEARCH (config/search/search.yaml), all of them into config/search/trials.csv, the best into config/chosen.yaml
CONFIG ?= config.yaml
SEARCH ?= config/search/search.yaml
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

TARGETS := tables report results docs archive quick bench tune setup test slurm test-slurm test-gpu rehearsal lint format lock
.PHONY: $(TARGETS)
.DELETE_ON_ERROR:

$(foreach unknown,$(filter-out $(TARGETS) .venv/.ready,$(MAKECMDGOALS)),$(error $(unknown) is no target; there are: $(TARGETS)))
$(if $(strip $(CONFIG)),,$(error CONFIG is empty; name a configuration, such as CONFIG=mine.yaml))

tables: setup
	@python -m sinet plan --config $(CONFIG) > /dev/null
	@python -m sinet.grid --cores all --configfile $(CONFIG)
	@python -m sinet step summary --config $(CONFIG)

report: setup
	@python -m sinet step summary --config $(CONFIG) > /dev/null
	@python -m sinet.grid report_page --cores all --configfile $(CONFIG)
	@python -c "from sinet.grid.config import load_config; print(load_config('$(CONFIG)')['results'] + '/report.html')"

results: setup
	@python -m sinet step results $(or $(CONFIGS),$(CONFIG))

archive: setup
	@python -m sinet step archive $(or $(CONFIGS),$(CONFIG))

docs: setup
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict
	@echo results/site/index.html

quick:
	@echo "The quick grid tests the installation; its scores mean nothing."
	@$(MAKE) tables CONFIG=config/quick.yaml

bench: setup
	@python -m sinet bench --config $(CONFIG)

tune: setup
	@python -m sinet search --search $(SEARCH) > /dev/null
	@python -m sinet.grid trained --cores all --keep-going --configfile results/search/grid.yaml; failed=$$?; \
		python -m sinet choose --search $(SEARCH) && exit $$failed

setup: .venv/.ready

.venv/.ready: envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null || \
		{ echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --requirement envs/requirements.lock
	@touch $@

# a file of tests to a process, each with one thread; threads of steps beside it sleep while they wait
test: setup
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python -m pytest --durations 40 --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slurm: setup slurm
	python -m pytest tests/slurm

rehearsal: setup
	@python -m tests.rehearsal results/rehearsal

# no setup: the Python is one that has what envs/requirements.in names, with torch built for the machine's CUDA
test-gpu:
	timeout 480 $(PYTHON) -m tests.gpu

slurm:
	@PATH=$$PATH:/usr/sbin; { command -v slurmd && command -v munged; } > /dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null; } || \
		{ echo "SLURM is not here; as root of a Debian: apt-get install slurm-wlm munge" >&2; exit 1; }

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy
	python docs/architecture.py --check

format: setup
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

lock: setup
	python envs/lock.py
