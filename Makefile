# Every target sets up what it needs: a virtual environment in .venv with the exact versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/condetr-is-installed

.PHONY: help setup demo test ci lint types fmt docs dist bench constraints

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv and install condetr and its tools into it

demo: setup  ## Generate a data set, train, evaluate, predict and report, into runs/demo
	$(VENV)/bin/condetr demo --resume auto

test: setup  ## Run the tests
	$(VENV)/bin/python -m pytest --quiet --durations=10 --numprocesses=auto --maxprocesses=4 --dist=worksteal

ci: test lint types docs  ## All that must pass before a change is taken

lint: setup  ## Check style, formatting and the direction of imports
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports
	$(VENV)/bin/oxlint --allow no-unused-vars --deny-warnings src/condetr/explain/explorer  # scripts of one page share names

types: setup  ## Check types, and that nothing is used that Windows lacks
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --platform win32 --cache-dir .mypy_cache/win32 src

fmt: setup  ## Format the code and mend what can be mended
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

docs: setup  ## Build the documentation in site/, and check its links
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

dist: setup  ## Build sdist and wheel, and try the wheel in an empty environment
	rm -rf dist
	$(VENV)/bin/python -m build
	$(PYTHON) -m venv --clear $(VENV)/empty
	$(VENV)/empty/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd $(VENV)/empty && bin/condetr recipes && rm -rf shapes && bin/condetr synth shapes --images 4 && bin/condetr doctor shapes

bench: setup  ## Measure every table of speed against its peers, into benchmarks/results; wants an idle machine
	$(VENV)/bin/python -m benchmarks.speed

constraints: setup  ## Write the versions installed in .venv to constraints.txt
	@sed -n '/^#/p' constraints.txt > $(VENV)/constraints.txt
	@$(VENV)/bin/python -m pip freeze --exclude-editable | grep -vE '^(cuda-|nvidia-|triton)' | LC_ALL=C sort -f >> $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

# An interrupted installation leaves no stamp, and so does a copied folder: begin anew, for pip takes half a package for
# a whole one.
INSTALLED_FROM := $(shell $(VENV)/bin/python -c 'import importlib.util as u; print(u.find_spec("condetr").origin)' 2>/dev/null)
ifneq ($(INSTALLED_FROM),$(CURDIR)/src/condetr/__init__.py)
$(shell rm -f $(STAMP))
endif

$(STAMP): pyproject.toml constraints.txt
	@test -e $@ || { echo "Making $(VENV); the first time takes some minutes."; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $@
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
