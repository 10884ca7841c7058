#!/bin/sh
# SPDX-License-Identifier: MIT
# Sets up what the tests need, then runs the linters, the type checker and all tests but those of
# tests/kernel. `run.sh kernel` runs those instead: they build Linux kernels and boot them.
# Arguments go to pytest:
#
#   sh tests/run.sh tests/test_demo.py -k lld
#   sh tests/run.sh kernel -k naive
#   sh tests/run.sh kernel --linux 6.12    # or all; the default is what CI does
set -eu

cd "$(dirname "$0")/.."
speed="test"
if [ "${1-}" = kernel ]; then
    speed=kernel
    shift
fi
bin=$(sh fixtures/setup.sh "$speed")
PATH=$bin:$PATH
export PATH

if [ "$speed" = kernel ]; then
    # `--linux 7.3` as one word: pytest would take the second for a file before it knows the option.
    left=$#
    while [ "$left" -gt 0 ]; do
        word=$1
        shift
        left=$((left - 1))
        if [ "$word" = --linux ] && [ "$left" -gt 0 ]; then
            word=--linux=$1
            shift
            left=$((left - 1))
        fi
        set -- "$@" "$word"
    done
    exec pytest -n auto -o testpaths=tests/kernel "$@"
fi
ruff check .
ruff format --check .
lint-imports
mypy
mypy fixtures/build.py
mypy fixtures/kernel/apply.py fixtures/kernel/series.py
mypy docs/man/generate.py
shellcheck .ci/run
find fixtures tests -name "*.sh" -exec shellcheck {} +
exec pytest -n auto "$@"
