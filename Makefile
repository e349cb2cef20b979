# Each target is one line over the `course` command; on Windows type that command (see README.md).
PROFILE ?= $(or $(profile),$(COURSE_PROFILE),standard)
PYTHON ?= python3
SET_UP = $(PYTHON) -m course_utils.set_up
# Not the script .venv/bin/course, which holds the folder it was made in.
COURSE = .venv/bin/python -m course_utils.cli

KNOWN = course lab site check test test-all notebooks help
ifneq ($(filter-out $(KNOWN),$(MAKECMDGOALS)),)
$(error make does not know "$(filter-out $(KNOWN),$(MAKECMDGOALS))". Expected: $(KNOWN); a profile like this: make course PROFILE=smoke)
endif
ifneq ($(MAKECMDGOALS),help)
ifneq ($(words $(filter smoke standard full,$(PROFILE))) $(words $(PROFILE)),1 1)
$(error PROFILE or COURSE_PROFILE is "$(PROFILE)". Expected: smoke, standard or full)
endif
endif

course:
	@$(SET_UP)
	$(COURSE) run --profile $(PROFILE)

lab:
	@$(SET_UP)
	$(COURSE) lab --profile $(PROFILE)

site:
	@$(SET_UP)
	$(COURSE) site --profile $(PROFILE)

check:
	@$(SET_UP)
	$(COURSE) check

test:
	@$(SET_UP) test
	$(COURSE) test

test-all:
	@$(SET_UP) test
	$(COURSE) test --all

notebooks:
	@$(SET_UP) test
	$(COURSE) notebooks

help:
	@echo "make course [PROFILE=smoke|standard|full]  set up, fetch data, run every notebook"
	@echo "make lab [PROFILE=...]   JupyterLab on your own copies in my_course/"
	@echo "make site [PROFILE=...]  the pages of the course, to read without Jupyter"
	@echo "make check      is this machine ready? what to do if not"
	@echo "make test       the quick tests, and every notebook through nbval"
	@echo "make test-all   every test"
	@echo "make notebooks  for authors: build notebooks/ from notebooks/source/"

.PHONY: $(KNOWN)
