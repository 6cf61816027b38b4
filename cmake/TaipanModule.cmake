# taipan_sources(TARGET FOLDER): adds every .cc below a folder that is not a test, a benchmark, a test's reference or a
# plugin.
function(taipan_sources target folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cc")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|reference|plugin)\\.cc$")
  target_sources(${target} PRIVATE ${sources})
  target_link_libraries(${target} PRIVATE taipan_flags)
endfunction()

# taipan_merged(TARGET): its files are compiled some at a time. Most of a build goes to headers and templates that they share.
# Names in their unnamed namespaces have to differ; those of tests need not.
function(taipan_merged target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${TAIPAN_MERGE_FILES} UNITY_BUILD_BATCH_SIZE 8)
endfunction()

# taipan_built_quickly(TARGET): for code whose own speed matters less than half the time of its build.
function(taipan_built_quickly target)
  if(TAIPAN_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  else()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()

# taipan_parsed_once(GROUP TARGET HEADERS ...): long headers of other people, parsed once for all targets of a group, which
# have the same flags. The files include what they need nevertheless. Without optimisation JSON's classes come from one file.
function(taipan_parsed_once group target)
  get_property(owner GLOBAL PROPERTY TAIPAN_PARSED_${group})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN} <filesystem> <functional> <map> <memory> <optional> <string> <vector>
      <fmt/format.h> <nlohmann/json.hpp>)
    if(TAIPAN_SANITIZE OR group STREQUAL "tests")
      target_precompile_headers(${target} PRIVATE "${PROJECT_SOURCE_DIR}/cmake/json_once.h")
    endif()
    set_property(GLOBAL PROPERTY TAIPAN_PARSED_${group} ${target})
  endif()
endfunction()

# taipan_module(NAME [UNSANITIZED] DEPS ...): src/NAME becomes the library taipan_NAME; its *_test.cc one test program,
# under sanitizers too but where it is UNSANITIZED.
# A dependency without :: is another module. The installed library is made of these modules (TaipanInstall).
function(taipan_module name)
  cmake_parse_arguments(ARG "UNSANITIZED" "" "DEPS" ${ARGN})
  set(target taipan_${name})
  add_library(${target} STATIC)
  taipan_sources(${target} src/${name})
  if(NOT name STREQUAL "kernels")  # Highway includes each of its files again for each instruction set
    taipan_merged(${target})
  endif()
  foreach(dep IN LISTS ARG_DEPS)
    if(dep MATCHES "::")
      set_property(GLOBAL APPEND PROPERTY TAIPAN_EXTERNAL_LIBRARIES ${dep})
    else()
      set(dep taipan_${dep})
    endif()
    target_link_libraries(${target} PUBLIC ${dep})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY TAIPAN_MODULES ${target})

  file(GLOB_RECURSE tests CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${name}/*_test.cc")
  if(TAIPAN_BUILD_TESTS AND tests AND NOT (TAIPAN_SANITIZE AND ARG_UNSANITIZED))
    taipan_test_program(${name} unit SOURCES ${tests} LIBRARIES ${target})
  endif()
endfunction()

# taipan_add_halves(LABEL TARGET): a long test program for ctest, as two tests that run side by side.
function(taipan_add_halves label target)
  foreach(half IN ITEMS 1 2)
    math(EXPR index "${half} - 1")
    add_test(NAME ${label}_${half} COMMAND ${target} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
    set_tests_properties(${label}_${half} PROPERTIES LABELS ${label}
      COST 30  # seconds: ctest begins with what takes longest
      ENVIRONMENT "GTEST_TOTAL_SHARDS=2;GTEST_SHARD_INDEX=${index};GTEST_OUTPUT=xml:${PROJECT_BINARY_DIR}/test-results/${label}_${half}.xml")
  endforeach()
endfunction()

# taipan_test_program(NAME LABEL SOURCES ... LIBRARIES ... [HALVES]): GoogleTest program taipan_NAME_tests, run by ctest
# in the source folder; a long one in two halves, side by side. The target LABEL_tests is all of a label.
function(taipan_test_program name label)
  cmake_parse_arguments(ARG "HALVES" "" "SOURCES;LIBRARIES" ${ARGN})
  set(target taipan_${name}_tests)
  add_executable(${target} ${ARG_SOURCES})
  set(group tests)
  if(name STREQUAL "kernels")  # they compute references
    set(group kernels_tests)
    target_compile_options(${target} PRIVATE -O1)
  else()
    target_compile_options(${target} PRIVATE -O0)
  endif()
  taipan_parsed_once(${group} ${target} <gmock/gmock.h> <gtest/gtest.h>)
  if(TAIPAN_SANITIZE MATCHES "address")  # they look at the code, not at its tests, whose references then take no longer
    target_compile_options(${target} PRIVATE -fno-sanitize=all -g0 -D__SANITIZE_ADDRESS__)
  endif()
  target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES} taipan_json_once taipan_flags GTest::gtest GTest::gmock GTest::gtest_main)
  if(ARG_HALVES)
    taipan_add_halves(${name} ${target})
  else()
    add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
    set_tests_properties(${name} PROPERTIES LABELS ${label})
  endif()
  if(NOT TARGET ${label}_tests)
    add_custom_target(${label}_tests)
  endif()
  add_dependencies(${label}_tests ${target})
endfunction()
