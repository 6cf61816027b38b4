#!/usr/bin/env bash
# What a machine can check without building: direction of includes, format, file lengths, words and flags that must not
# ship. Runs every check, then exits 1 if one failed.
#   scripts/check.sh [--fix]     --fix: formats the sources first
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"
"$root/scripts/setup.sh" --dev

max_lines=450
status=0
fail() { printf 'FAILED: %s\n' "$*" && status=1; }

sources=(src include examples tests)
mapfile -d '' -t cxx < <(find "${sources[@]}" \( -name '*.cc' -o -name '*.h' \) -print0 | sort -z)
[ ${#cxx[@]} -gt 0 ] || die "no sources found"
mapfile -d '' -t own < <(find CMakeLists.txt CMakePresets.json cmake scripts tools presets .ci bench "${sources[@]}" -type f \
  ! -path 'tests/golden/*' ! -name '*.pyc' -print0 2>/dev/null | sort -z)

if [ "${1:-}" = --fix ]; then
  clang-format --style=file -i "${cxx[@]}"
elif [ $# -gt 0 ]; then
  usage "${BASH_SOURCE[0]}" && exit 2
fi

python3 scripts/check_includes.py || fail "an include points up or sideways"
clang-format --style=file --dry-run -Werror "${cxx[@]}" || fail "format (scripts/check.sh --fix mends it)"
wc -l "${cxx[@]}" | awk -v max="$max_lines" '$2 != "total" && $1 > max { print $2 ": " $1 " lines"; bad = 1 } END { exit bad }' ||
  fail "files over $max_lines lines"

# forbid PATTERN WHY: no line of our own files may match. The brackets keep the patterns from matching themselves.
forbid() {
  if grep -nIE "$1" "${own[@]}"; then fail "$2"; fi
}
forbid 'march=[n]ative|-ffast-[m]ath|-O[f]ast' "a flag that makes results depend on the machine"
forbid '\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b' "unfinished places"
forbid '[[:space:]]+$' "trailing blanks"
if grep -nE 'ParallelFor' src/layers/*.cc src/layers/*.h src/model/*.cc src/model/*.h; then
  fail "arithmetic outside kernels: layers and model have no parallel loops"
fi
for script in scripts/*.sh .ci/run; do
  bash -n "$script" || fail "$script does not parse"
done

[ "$status" -eq 0 ] && echo "check: all passed (${#cxx[@]} C++ files)"
exit "$status"
