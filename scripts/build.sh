#!/usr/bin/env bash
# Installs what is missing (setup.sh) and builds. Without options: the program, optimised, at build/taipan.
#   scripts/build.sh [--debug|--asan|--tsan|--coverage] [--all] [TARGET...]
#     --debug --asan --tsan --coverage    another preset, in build-debug, build-asan, ...
#     --all                               tests, benchmarks and the library too
#     TARGET...                           these targets instead of the program
# TAIPAN_WERROR=ON makes warnings errors.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

preset=release build=$root/build targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --debug | --asan | --tsan | --coverage) preset=${1#--} build=$root/build-$preset ;;
    --all) targets+=(all) ;;
    --help) usage "${BASH_SOURCE[0]}" && exit 0 ;;
    -*) usage "${BASH_SOURCE[0]}" && exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=(taipan_program)

"$root/scripts/setup.sh"
cd "$root"
mkdir -p "$build"
if ! cmake --preset "$preset" ${TAIPAN_WERROR:+"-DTAIPAN_WERROR=$TAIPAN_WERROR"} >"$build/configure.log" 2>&1; then
  cat "$build/configure.log" >&2
  die "cmake could not configure $build (its log is above)"
fi
say "building ${targets[*]} in ${build#"$root"/}"
cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}"
