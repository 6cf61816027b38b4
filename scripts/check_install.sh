#!/usr/bin/env bash
# Installs the build into a temporary folder, builds examples/quickstart against nothing but that, and runs it.
#   scripts/check_install.sh [--static]     --static: a static library (a build of its own in build-static)
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

build=$root/build
if [ "${1:-}" = --static ]; then
  build=$root/build-static
  "$root/scripts/setup.sh"
  cmake --preset release -S "$root" -B "$build" -DBUILD_SHARED_LIBS=OFF -DTAIPAN_BUILD_TESTS=OFF >/dev/null
  cmake --build "$build" --parallel "$(nproc)"
else
  "$root/scripts/build.sh" taipan_program taipan_lib
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >/dev/null
"$work/prefix/bin/taipan" presets >/dev/null
"$work/prefix/bin/taipan" generate --prompt "The" --max-tokens 2 >/dev/null # by the model that is shipped
cmake -S "$root/examples/quickstart" -B "$work/quickstart" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log" || { cat "$work/configure.log" >&2 && exit 1; }
cmake --build "$work/quickstart"
"$work/quickstart/quickstart"
say "the installed package works"
