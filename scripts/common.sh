# Sourced by the other scripts: the project's folder, messages, and running and counting tests.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# usage SCRIPT: the comment at its head, without the leading #.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }

# run_ctest BUILD_DIR [ctest arguments]: every test program writes what its cases did into BUILD_DIR/test-results.
run_ctest() {
  local build=$1 results=$1/test-results
  shift
  rm -rf "$results"
  mkdir -p "$results"
  # Tests write thousands of small files and wait for each to be on the disk; memory waits for nothing.
  if [ -z "${TMPDIR:-}" ] && [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null; then
    local -x TMPDIR=/dev/shm
  fi
  # Several programs run side by side, each with its own threads: waiting threads must not burn the others' time.
  GTEST_OUTPUT="xml:$results/" GTEST_BRIEF=${GTEST_BRIEF:-1} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} \
    ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$(nproc)" \
    --output-junit "$results/ctest.junit" "$@"
}

# count_cases BUILD_DIR...: "N passed, N failed[, N skipped]" over the last run_ctest of each folder. The cases of
# GoogleTest programs count one by one; a program without a report (it died early, or is no GoogleTest) counts as one.
count_cases() {
  local build
  for build in "$@"; do
    cat "$build/test-results/ctest.junit"
    find "$build/test-results" -name '*.xml' -exec cat {} +
  done | awk -F'"' '
    function value(name,   i) { for (i = 1; i < NF; i++) if ($i ~ (" " name "=$")) return $(i + 1) }
    /<testsuites / { reports++; cases += value("tests"); bad = value("failures") + value("errors")
                     failed += bad; bad_reports += bad > 0; skipped += value("disabled") }
    /<testcase / && value("result") { skipped += value("result") == "skipped"; next }  # a case of GoogleTest
    /<testcase / && value("status") ~ /^(fail|notrun)$/ { failed_programs++ }
    /<testcase / && value("status") != "disabled" { programs++ }
    END {
      silent_failures = failed_programs - bad_reports  # no report, or a good report and then a bad exit
      if (silent_failures < 0) silent_failures = 0
      silent_passes = programs - reports - silent_failures
      if (silent_passes < 0) silent_passes = 0
      printf "%d passed, %d failed", cases - failed - skipped + silent_passes, failed + silent_failures
      if (skipped) printf ", %d skipped", skipped
      printf "\n"
    }'
}
