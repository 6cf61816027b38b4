#!/usr/bin/env bash
# Line coverage of src/ by all tests: builds with gcov in build-coverage, runs the tests, prints a table by file and the total.
#   scripts/coverage.sh [--html FILE]
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$root/scripts/setup.sh" --dev

build=$root/build-coverage
"$root/scripts/build.sh" --coverage --all
find "$build" -name '*.gcda' -delete
run_ctest "$build" || die "a test failed: no coverage figure"

report=()
[ "${1:-}" = --html ] && report=(--html-details "$2")
cd "$root"
# Headers and SIMD code are compiled many times; gcovr merges a line's counts over all of them.
gcovr --root . --filter 'src/' --exclude '.*_test\.cc' --exclude '.*_bench\.cc' --exclude '.*_reference\.h' \
  --exclude '.*/test_[a-z_]*\.h' --object-directory "$build" -j "$(nproc)" --txt --print-summary "${report[@]}" "$build"
