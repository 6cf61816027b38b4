#!/usr/bin/env bash
# Compiles the library for 64-bit ARM with Debian's cross compiler: nothing may depend on x86. Objects are not linked.
#   scripts/check_arm.sh [PART...]     folders of src/, default: all but cli and api
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ "${1:-}" = --help ] && usage "${BASH_SOURCE[0]}" && exit 0
compiler=aarch64-linux-gnu-g++
if ! command -v $compiler >/dev/null; then
  say "installing Debian's cross compiler"
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get install -y -q g++-aarch64-linux-gnu >/dev/null
fi

# Headers that are the same on every architecture, without the C library's own.
headers=$root/build/arm-headers
mkdir -p "$headers"
for name in hwy fmt spdlog nlohmann CLI oneapi; do ln -sfn "/usr/include/$name" "$headers/$name"; done
for file in /usr/include/{dnnl*,pcre2.h,sentencepiece_*.h,utf8proc.h}; do ln -sfn "$file" "$headers/${file##*/}"; done

if [ $# -eq 0 ]; then set -- base tensor kernels formats text layers model data train infer; fi
files=()
for part in "$@"; do
  for file in "$root/src/$part"/*.cc; do
    [[ $file == *_test.cc ]] || files+=("$file")
  done
done
[ ${#files[@]} -gt 0 ] || die "no sources in: $*"
say "compiling ${#files[@]} files for aarch64"
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} \
  $compiler -std=c++20 -fsyntax-only -Wall -Wextra -Werror -Wno-psabi -Wno-unused-parameter -fopenmp -DFMT_HEADER_ONLY \
  '-DHWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)' -I "$root/src" -isystem "$headers" {}
say "check_arm: all compiled"
