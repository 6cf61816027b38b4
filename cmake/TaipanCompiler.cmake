# Flags shared by every target. No -march: kernels choose their instruction set at run time.
add_library(taipan_flags INTERFACE)
target_include_directories(taipan_flags INTERFACE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
target_compile_options(taipan_flags INTERFACE -Wall -Wextra -Wshadow -Wno-unused-parameter)
if(TAIPAN_WERROR)
  target_compile_options(taipan_flags INTERFACE -Werror)
endif()
# Highway: a baseline, AVX2 and AVX-512; the steps between bring nothing here and cost build time. On ARM NEON alone:
# SVE's types cannot be members of a struct. Sanitizers look at the widest and the narrowest.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(TAIPAN_HWY_DISABLED "HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128")
else()
  set(TAIPAN_HWY_DISABLED "HWY_SSSE3|HWY_SSE4|HWY_AVX3_DL")
endif()
set(TAIPAN_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(TAIPAN_SANITIZE)
  string(APPEND TAIPAN_HWY_DISABLED "|HWY_AVX2")
endif()
target_compile_definitions(taipan_flags INTERFACE
  "HWY_DISABLED_TARGETS=(${TAIPAN_HWY_DISABLED})" TAIPAN_VERSION="${PROJECT_VERSION}")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What it needs to know a file that uses precompiled headers again.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros "${CCACHE_PROGRAM}")
endif()

if(TAIPAN_SANITIZE)
  # With sanitizers GCC 12 sees uninitialised values inside std::function and std::regex where there are none.
  add_compile_options(-Wno-maybe-uninitialized)
  add_compile_options(-fsanitize=${TAIPAN_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${TAIPAN_SANITIZE})
  if(TAIPAN_SANITIZE MATCHES "undefined")  # checks at every pointer: a third of a build; a bad one is AddressSanitizer's too
    add_compile_options(-fno-sanitize=null,alignment,object-size,vptr)
  endif()
endif()
