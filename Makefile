# Each target is one line over the `course` command; on Windows type that command (see README.md).
PROFILE ?= $(or $(COURSE_PROFILE),standard)
PYTHON ?= python3

course: .venv/course
	.venv/bin/course run --profile $(PROFILE)

lab: .venv/course
	.venv/bin/course lab --profile $(PROFILE)

check: .venv/course
	.venv/bin/course check

test: .venv/test
	.venv/bin/course test

notebooks: .venv/test
	.venv/bin/course notebooks

help:
	@echo "make course [PROFILE=smoke|standard|full]  set up, fetch data, run every notebook"
	@echo "make lab [PROFILE=...]   JupyterLab on your own copies in my_course/"
	@echo "make check      is this machine ready? what to do if not"
	@echo "make test       pytest, and every notebook through nbval"
	@echo "make notebooks  for authors: build notebooks/ from notebooks/source/"

.venv/course: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing packages: about 3 GB on Linux, less elsewhere. This takes some minutes."
	.venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

.venv/test: .venv/course
	.venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[test]"
	@touch $@

.PHONY: course lab check test notebooks help
