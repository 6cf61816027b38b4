#!/usr/bin/env bash
# Lets taipan run in turns with PyTorch + transformers and with llama.cpp on this machine: every row of the table of
# promised speeds, medians of five samples each; the table on standard output, a JSON file a row in bench/results.
# The first run sets the peers up: a Python environment, llama.cpp built from source, models with random weights.
#   scripts/compare.sh [--setup] [--only ROW[/CASE]]... [--quick] [--rounds N] [--out DIR] [OPTION...]
#     --setup      the peers only, no comparison
#     --only       this row, or its cases with CASE in their name; may be repeated. --list names them all
#     --quick      two rounds instead of five
#     --program    compare this program; else scripts/build.sh builds build/taipan first
#     OPTION       tools/peers/compare.py --help names the others: --threads, --lock, --thorough, --retune, --list
# TAIPAN_PEERS is the folder of the peers (default build/peers, about 4 GB). PIP_INDEX_URL and the like act as usual.
# TAIPAN_TEXT_MODEL is a GGUF file of a Llama with its tokenizer, for the rows openvino and first-token.
# TAIPAN_PEERS_JOBS is how many compilers build llama.cpp (default: one a CPU).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

peers=${TAIPAN_PEERS:-$root/build/peers}
jobs=${TAIPAN_PEERS_JOBS:-$(nproc)}
tools=$root/tools/peers
torch=2.13.0 transformers=5.23.0 llama_cpp_python=0.3.36 openvino=2026.4.1.0
torch_index=https://download.pytorch.org/whl/cpu # wheels without CUDA
peer_models=(mamba2-130m mamba2-370m llama-190m)  # those that llama.cpp runs
peer_types=(Q8_0 Q4_0 Q4_K_M)                     # beside BF16

# logged LOG COMMAND...: quiet unless it fails.
logged() {
  local log=$peers/$1
  shift
  "$@" >"$log" 2>&1 </dev/null || { tail -n 25 "$log" >&2 && die "failed: $* (its log: $log)"; }
}

# What Python and the loader cannot find comes from Debian's packages.
install_packages() {
  local missing=() as_root=()
  command -v cmake >/dev/null && command -v ninja >/dev/null && command -v g++ >/dev/null || "$root/scripts/setup.sh"
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  # torch.compile builds against Python's headers.
  python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
    missing+=(python3-dev)
  # The name alone, as PyTorch will get it; the loader only warns where it is not there.
  [ -z "$(LD_PRELOAD=libjemalloc.so.2 bash -c : 2>&1)" ] || missing+=(libjemalloc2)
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  command -v apt-get >/dev/null && command -v "${as_root[0]:-apt-get}" >/dev/null ||
    die "missing, under the names of Debian's packages: ${missing[*]}"
  say "installing ${missing[*]}"
  logged apt.log "${as_root[@]}" apt-get -qq update
  logged apt.log "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "${missing[@]}"
}

setup_python() {
  local python=$peers/venv/bin/python stamp=$peers/venv/taipan-peers
  local packages wanted="torch $torch, transformers $transformers"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  say "Python environment with $wanted"
  logged venv.log python3 -m venv --clear "$peers/venv"
  # Where the usual sources have no wheel without CUDA, PyTorch's own do.
  packages=("torch==$torch+cpu" "transformers==$transformers" numpy gguf)
  "$python" -m pip install "${packages[@]}" >"$peers/pip.log" 2>&1 </dev/null ||
    logged pip.log "$python" -m pip install --extra-index-url "$torch_index" "${packages[@]}"
  printf '%s\n' "$wanted" >"$stamp"
}

setup_openvino() {
  local python=$peers/openvino/bin/python stamp=$peers/openvino/taipan-peers
  [ -n "${TAIPAN_TEXT_MODEL:-}" ] && [ "$(cat "$stamp" 2>/dev/null)" != "$openvino" ] || return 0
  say "Python environment with OpenVINO GenAI $openvino"
  logged venv.log python3 -m venv --clear "$peers/openvino"
  logged pip.log "$python" -m pip install "openvino-genai==$openvino"
  printf '%s\n' "$openvino" >"$stamp"
}

# llama.cpp's sources come with those of its Python package.
fetch_llama() {
  local version=llama_cpp_python-$llama_cpp_python
  llama_source=$peers/$version/vendor/llama.cpp
  [ -f "$llama_source/CMakeLists.txt" ] && return
  say "sources of llama.cpp (llama-cpp-python $llama_cpp_python)"
  logged download.log "$peers/venv/bin/python" -m pip download --no-binary llama-cpp-python --no-deps \
    --dest "$peers" "llama-cpp-python==$llama_cpp_python"
  tar -xzf "$peers/$version.tar.gz" -C "$peers"
  [ -f "$llama_source/CMakeLists.txt" ] || die "$version.tar.gz holds no vendor/llama.cpp"
}

# gcc 12 thinks that loading a tile configuration reads only its first bytes and drops the stores to the others:
# quantised models crash on CPUs with AMX. Naming the whole object as used keeps them.
mend_llama() {
  local file=$llama_source/ggml/src/ggml-cpu/amx/mmq.cpp
  [ -f "$file" ] || die "$file is missing: another version of llama.cpp?"
  grep -q '"+m"(tc)' "$file" && return
  sed -i 's/^\( *\)\(_tile_loadconfig(&tc);\)/\1__asm__ volatile("" : "+m"(tc));\n\1\2/' "$file"
  grep -q '"+m"(tc)' "$file" || die "$file: found no _tile_loadconfig(&tc) to mend"
}

build_llama() {
  local programs=(llama-bench llama-quantize llama-completion) program missing=no
  for program in "${programs[@]}"; do [ -x "$peers/llama/bin/$program" ] || missing=yes; done
  [ "$missing" = yes ] || return 0
  say "building llama.cpp for this machine (log: $peers/llama-build.log)"
  mend_llama
  logged llama-configure.log cmake -S "$llama_source" -B "$peers/llama" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DBUILD_SHARED_LIBS=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
  logged llama-build.log cmake --build "$peers/llama" --parallel "$jobs" --target "${programs[@]}"
}

# Written under another name first: an interrupted run leaves no half file.
make_models() {
  local model type file pure
  mkdir -p "$peers/gguf"
  for model in "${peer_models[@]}"; do
    file=$peers/gguf/$model-BF16.gguf
    if [ ! -f "$file" ]; then
      say "random weights: $model"
      "$peers/venv/bin/python" "$tools/make_gguf.py" "$root/bench/models/$model.json" "$file.part"
      mv "$file.part" "$file"
    fi
    for type in "${peer_types[@]}"; do
      file=$peers/gguf/$model-$type.gguf
      [ -f "$file" ] && continue
      pure=--pure
      [ "$type" = Q4_K_M ] && pure= # a mixture of types by its nature
      # shellcheck disable=SC2086
      logged quantize.log "$peers/llama/bin/llama-quantize" $pure "$peers/gguf/$model-BF16.gguf" "$file.part" "$type"
      mv "$file.part" "$file"
    done
  done
}

setup_only=no list=no build=yes compare=()
for argument in "$@"; do
  case $argument in
    --help | -h) usage "${BASH_SOURCE[0]}" && exit 0 ;;
    --setup) setup_only=yes ;;
    --list) list=yes compare+=("$argument") ;;
    --program | --program=*) build=no compare+=("$argument") ;;
    *) compare+=("$argument") ;;
  esac
done

[ "$list" = no ] || exec python3 "$tools/compare.py" --peers "$peers" "${compare[@]}"
mkdir -p "$peers"
peers=$(cd "$peers" && pwd)
install_packages
setup_python
setup_openvino
fetch_llama
build_llama
make_models
[ "$setup_only" = yes ] && exit 0

[ "$build" = no ] || "$root/scripts/build.sh"
exec "$peers/venv/bin/python" "$tools/compare.py" --peers "$peers" "${compare[@]}"
