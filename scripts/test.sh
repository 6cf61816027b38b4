#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test. Exit code 0 only if all passed; the last line counts.
#   scripts/test.sh [--debug|--asan|--tsan|--coverage] [--unit] [ctest arguments, e.g. -R kernels or -L unit]
#     --unit                       builds and runs the unit tests alone
#   scripts/test.sh --golden     the golden checks alone, on the folder TAIPAN_GOLDEN (default tests/golden)
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

build=$root/build options=() golden= unit= targets=(--all)
while [ $# -gt 0 ]; do
  case $1 in
    --debug | --asan | --tsan | --coverage) options=("$1") build=$root/build-${1#--} ;;
    --golden) golden=1 ;;
    --unit) targets=(unit_tests) unit=1 ;;
    --help) usage "${BASH_SOURCE[0]}" && exit 0 ;;
    *) break ;;
  esac
  shift
done

if [ -n "$golden" ]; then
  folder=${TAIPAN_GOLDEN:-$root/tests/golden}
  TAIPAN_GOLDEN=$(cd "$folder" 2>/dev/null && pwd) || die "TAIPAN_GOLDEN: no such folder: $folder"
  export TAIPAN_GOLDEN
  "$root/scripts/build.sh" "${options[@]}" taipan_golden_tests
  say "golden checks on $TAIPAN_GOLDEN"
  set -- -R '^golden$' --verbose "$@"
else
  "$root/scripts/build.sh" "${options[@]}" "${targets[@]}"
  [ -z "$unit" ] || set -- -L unit "$@"
  say "running the tests"
fi

status=0
run_ctest "$build" "$@" || status=$?
count_cases "$build"
exit "$status"
