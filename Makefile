# make demo and make test need nothing but Debian 12 or Ubuntu 24.04 with python3, and root. Both set themselves up.

# Debian's python3, whatever else is first in the path.
PYTHON := $(shell test -x /usr/bin/python3 && echo /usr/bin/python3 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin

# Where `make install` puts truecl on a real node.
PREFIX ?= /opt/truecl

# What the daemons, the drivers, the lab and the tests call. `make setup` installs those that are missing.
PACKAGES := python3-venv iproute2 iputils-ping e2fsprogs xfsprogs util-linux mount kmod procps nftables openssl \
	ca-certificates curl
# Real fence agents, which the drivers' tests run, and a small compiler for the nodes' clocks in the fault campaign.
TEST_PACKAGES := fence-agents tcc

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-vm test-fast lint bench faults faults-vm soak install clean root packages test-packages vm-packages user
.DEFAULT_GOAL := help

help:
	@echo "make setup      virtual environment, missing Debian packages, user truecl (root)"
	@echo "make demo       a cluster of four nodes on this machine does its whole job (root)"
	@echo "make test       all tests but those on kernels of their own (root)"
	@echo "make test-vm    those: storage, DRBD, watchdogs on user-mode Linux (root)"
	@echo "make vm-packages  what 'lha_lab up --vm' needs: a kernel, LVM, DRBD's tools; unpacked, not installed (root)"
	@echo "make test-fast  the tests that need neither root, the lab nor minutes"
	@echo "make lint       ruff, mypy, the layer contract"
	@echo "make bench      figures, kept in bench/ as JSON (root)"
	@echo "make faults     200 random faults against real daemons, watched from outside (root)"
	@echo "make faults-vm  20 random faults against a database on DRBD, on kernels of their own (root)"
	@echo "make soak       100,000 seeds in the simulator"
	@echo "make install    truecl into PREFIX=$(PREFIX) of a real node, with its systemd unit (root)"
	@echo "make clean      what these have made"

setup: root packages user $(VENV)/.installed

root:
	@test "$$(id -u)" = 0 || { echo "make: this needs root (packages, namespaces, loop devices); make test-fast does not" >&2; exit 1; }

define install_missing
	@missing=; for package in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

packages:
	$(call install_missing,$(PACKAGES))

test-packages: packages
	$(call install_missing,$(TEST_PACKAGES))

vm-packages: setup
	@$(RUN)/python -m truecl.lab.vm.packages

user:
	@getent passwd truecl >/dev/null || \
		{ echo "adding user truecl"; useradd --system --user-group --no-create-home --shell /usr/sbin/nologin truecl; }

# Made anew when the requirements change. A half-made environment has no stamp.
$(VENV)/.installed: setup.cfg pyproject.toml
	@echo "installing truecl into $(VENV)"
	@test -x $(RUN)/python && test -x $(RUN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(RUN)/pip install --quiet --config-settings editable_mode=compat --editable '.[test]'
	@touch $@

demo: setup
	@$(RUN)/lha_lab demo

test: setup test-packages
	@tests/all.sh $(RUN)/python

# Nodes with kernels of their own: LVM, DRBD and watchdogs that are real ones.
test-vm: setup test-packages
	@$(RUN)/python -m pytest -m vm

test-fast: $(VENV)/.installed
	@$(RUN)/python -m pytest -m "not root and not lab and not sweep"

lint: $(VENV)/.installed
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check --quiet .
	@$(RUN)/mypy --strict truecl
	@$(RUN)/lint-imports --no-cache

bench: setup
	@$(RUN)/lha_lab bench

faults: setup test-packages
	@$(RUN)/lha_lab faults

faults-vm: vm-packages
	@$(RUN)/lha_lab faults --vm

soak: $(VENV)/.installed
	@$(RUN)/python -m truecl.sim --seeds 1..100000

install: root packages user
	@test -x $(PREFIX)/bin/pip || $(PYTHON) -m venv $(PREFIX)
	@$(PREFIX)/bin/pip install --quiet .
	@for command in $(PREFIX)/bin/lha_*; do ln -sf $$command /usr/local/sbin/; done
	@sed 's|/opt/truecl|$(PREFIX)|g' conf/truecl.service > /etc/systemd/system/truecl.service
	@if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@echo "installed into $(PREFIX); next: lha_init, lha_check, systemctl enable --now truecl"

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .sweep.log
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
