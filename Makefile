# Two commands on a fresh machine: `make demo` and `make test`. Each makes the virtual environment it needs.
# Extra pip arguments: make demo PIP_ARGS="--quiet --retries 9"; another interpreter: make demo PYTHON=python3.12
PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-newest test-4bit test-distributed test-slow test-resume test-real gpu-check lab lint notebooks test-notebooks browser test-browser clean

demo: $(VENV)/.installed
	$(BIN)/medr1kit demo --output_dir runs/demo

# One worker a core, four at most: each holds a torch of its own.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The training tests with today's newest TRL and transformers, which the installed ones do not know yet.
test-newest: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target .newest trl transformers
	$(BIN)/python -m pip list --path .newest
	PYTHONPATH=$(CURDIR)/.newest $(BIN)/python -m pytest -n auto --maxprocesses 4 tests/test_train.py tests/test_trainers.py tests/test_recording.py tests/test_predict.py

# 4-bit loading: bitsandbytes beside the rest, because with it installed whatever loads peft takes a second longer.
test-4bit: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target .4bit "bitsandbytes>=0.46.1,<1"
	PYTHONPATH=$(CURDIR)/.4bit $(BIN)/python -m pytest tests/four_bit

# What takes two processes: torchrun with gloo, on a CPU. DeepSpeed goes into a folder of its own, and compiles a part of
# itself there when it first runs; where it cannot be had, its tests are skipped, and that is told.
DEEPSPEED = deepspeed==0.19.8 einops hjson msgpack ninja py-cpuinfo
WITH_DEEPSPEED = PYTHONPATH=$(CURDIR)/.deepspeed TORCH_EXTENSIONS_DIR=$(CURDIR)/.deepspeed/extensions $(BIN)/python
test-distributed: $(VENV)/.installed
	-DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --upgrade --no-deps --target .deepspeed $(DEEPSPEED)
	@$(WITH_DEEPSPEED) -c "import deepspeed" || echo "NEWS: DeepSpeed cannot be installed here: its tests are skipped"
	$(WITH_DEEPSPEED) -m pytest -rs tests/distributed

# What takes long: kills and resumed trainings and studies, trainings of the tower, the dry run of gpu-check; and trainings, panels,
# a notebook and the demo without a network, and without CI=true.
test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal tests/slow

# Ten kills at random moments a method, each resumed and held against an unbroken run; `make test-slow` has one of each.
# Two processes as well.
test-resume: $(VENV)/.installed
	KILLS=10 $(BIN)/python -m pytest -n auto --maxprocesses 4 tests/slow/test_resume.py -k "random_moment or two_processes"

# What a GPU does otherwise than a CPU, in a few minutes: one table. Nothing is installed; the python that has torch runs it.
gpu-check:
	PYTHONPATH=$(CURDIR) $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks gpu --json benchmarks/speed/gpu.json

# Model folders in the Hub's layout with Qwen's own vocabulary, one of each family. The vocabulary comes out of dashscope,
# and torchvision is for stock classes in a process of their own: neither may get into the environment.
test-real: .real/.fetched
	$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadscope tests/real

.real/.fetched: $(VENV)/.installed Makefile
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet --upgrade --no-deps --target .real dashscope==2.0.2 torchvision==0.28.0
	touch $@

lab: $(VENV)/.installed
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks

# Runs every notebook, two at a time, and writes its outputs; `make test-notebooks` compares instead.
# One of them: make notebooks NAMES=03
notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/build.py $(NAMES)

test-notebooks: $(VENV)/.installed
	$(BIN)/python notebooks/build.py --check $(NAMES)

# Chromium, where none is found: by apt as root or with sudo, else Playwright's own download.
browser: $(VENV)/.installed
	@$(BIN)/python tests/browser/install.py

# The widgets and the report in that browser, as Voila, JupyterLab and a file show them.
test-browser: browser
	$(BIN)/python -m pytest tests/browser

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "medr1kit needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .4bit .deepspeed .newest .real
