# The front door. Everything that a target needs is set up by it, on a bare Debian 12 with root, git, make and python3.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

# What a target host needs, then what the tests ask as counterparts.
PACKAGES := python3-venv python3-pyroute2 nftables iproute2 mmdebstrap debootstrap curl rsync \
	busybox-static runc strace
.PHONY: help setup demo unit test bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.done ## packages and a virtual environment

$(VENV)/.done: tests/requirements.txt Makefile
	tests/setup $(PACKAGES)
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement tests/requirements.txt
	touch $@

demo: setup ## converge playbooks/shop.yml on this host and print the page it serves
	$(BIN)/ansible-playbook playbooks/shop.yml

unit: setup ## the tests that need no root
	$(BIN)/pytest -q tests/unit

test: setup ## every test
	$(BIN)/pytest -q

bench: setup ## side by side with peers
	$(BIN)/python tests/bench/run.py

clean: ## what this Makefile made in the checkout
	rm -rf $(VENV) .cache tests/output
