#!/bin/sh
# SPDX-License-Identifier: MIT
# Sets up what the tests need, then runs the linters, the type checker and all tests.
# Arguments go to pytest: sh tests/run.sh tests/test_demo.py -k lld
set -eu

cd "$(dirname "$0")/.."
bin=$(sh fixtures/setup.sh test)
PATH=$bin:$PATH
export PATH

ruff check .
ruff format --check .
mypy
mypy fixtures/build.py
mypy fixtures/kernel/apply.py
shellcheck .ci/run
find fixtures tests -name "*.sh" -exec shellcheck {} +
exec pytest -n auto "$@"
