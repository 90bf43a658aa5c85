# The front door. Everything that a target needs is set up by it, on a bare Debian 12 with root, git, make and python3.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

# What a host needs to have containers, and what makes the demonstration's images.
HOST_PACKAGES := python3-venv python3-pyroute2 nftables iproute2 mmdebstrap debootstrap curl tini
# What the tests and the comparison ask as counterparts.
TEST_PACKAGES := dbus docker-compose git iputils-ping rsync sudo openssh-client openssh-server busybox-static runc strace skopeo umoci buildah docker-registry apache2-utils openssl zstd xfsprogs btrfs-progs podman conmon netavark aardvark-dns iptables
# What makes hosts of their own for tests, and drives an application on them: tests/vm/README.md.
VM_PACKAGES := qemu-system-x86 qemu-utils mmdebstrap openssh-client wrk

.PHONY: help setup setup-tests demo unit kernel integration collection test test-vm bench bench-fleet bench-vm docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.done ## what a host and a controller need
setup-tests: $(VENV)/.done-tests

$(VENV)/.done: playbooks/requirements.txt tests/setup Makefile
	tests/setup $(HOST_PACKAGES)
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement playbooks/requirements.txt
	touch $@

$(VENV)/.done-tests: $(VENV)/.done tests/requirements.txt
	tests/setup $(TEST_PACKAGES) $(VM_PACKAGES)
	$(BIN)/pip install --quiet --requirement tests/requirements.txt
	touch $@

demo: setup ## converge playbooks/shop.yml on this host and print the page it serves
	$(BIN)/ansible-playbook playbooks/shop.yml

unit: setup-tests ## the tests that need no root: seconds
	$(BIN)/pytest -q tests/unit

kernel integration collection: setup-tests
	$(BIN)/pytest -q tests/$@

test: setup-tests ## every test: two files at a time, then alone those that measure, and what proves that nothing is left
	tests/whole

test-vm: setup-tests ## all that is tested in virtual machines: systemd, cgroup v2, SELinux, reboots
	$(BIN)/pytest -q -m 'vm or vm_always'

bench: setup-tests ## side by side with containers.podman: containers, and an image's pull
	$(BIN)/python tests/bench/run.py
	$(BIN)/python tests/bench/pull.py

bench-fleet: setup-tests ## many hosts: nothing to change on them, their containers as an inventory, tasks in those, placement
	$(BIN)/python tests/bench/unchanged.py
	$(BIN)/python tests/bench/connection.py
	$(BIN)/python tests/bench/inventory.py
	$(BIN)/python tests/bench/place.py

bench-vm: setup-tests ## in virtual machines: a reboot beside quadlet, and 200 containers over ssh
	tests/setup $(VM_PACKAGES)
	$(BIN)/python tests/bench/vm_reboot.py
	$(BIN)/python tests/bench/vm_stack.py

docs: setup-tests ## write what the documentation takes from the code
	$(BIN)/python docs/generate.py

clean: ## remove what this Makefile made in the checkout
	rm -rf $(VENV) .cache tests/output
