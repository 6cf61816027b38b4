#!/usr/bin/env bash
# Installs what the build needs from Debian 12's packages (as root, or through sudo). Silent when everything is there.
#   scripts/setup.sh [--dev]    --dev: also what check.sh and coverage.sh need
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages=(g++ cmake ninja-build pkg-config libdnnl-dev libhwy-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev
  libpcre2-dev libsentencepiece-dev libutf8proc-dev zlib1g-dev libzstd-dev libedit-dev
  libopenmpi-dev openmpi-bin libgtest-dev libgmock-dev libbenchmark-dev)
optional=(ccache) # taken along when something else is missing
case "${1:-}" in
  "") ;;
  --dev) packages+=(clang-format python3 gcovr) ;;
  *) usage "${BASH_SOURCE[0]}" && exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  say "this is not a Debian system: setup installs nothing; the build needs what these packages hold: ${packages[*]}"
  exit 0
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qx "installed $package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "missing packages; as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
say "installing ${missing[*]} ${optional[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 </dev/null; }
install() { apt install -y --no-install-recommends "${missing[@]}" "${optional[@]}"; }
# A package list that is absent or old makes the first attempt fail; then it is fetched.
install || { apt update && install; } || { cat "$log" >&2 && die "apt-get could not install: ${missing[*]}"; }
