# Installation: the program, one library made of every module's objects, one header and a CMake package, so that another
# project says find_package(taipan) and links taipan::taipan. Shared by default: its users then need none of our
# dependencies' development files. -DBUILD_SHARED_LIBS=OFF installs a static library, whose package finds them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

option(BUILD_SHARED_LIBS "Install libtaipan as a shared library" ON)
get_property(modules GLOBAL PROPERTY TAIPAN_MODULES)
get_property(externals GLOBAL PROPERTY TAIPAN_EXTERNAL_LIBRARIES)
list(REMOVE_DUPLICATES externals)

add_library(taipan_lib)
add_library(taipan::taipan ALIAS taipan_lib)
foreach(module IN LISTS modules)
  target_sources(taipan_lib PRIVATE "$<TARGET_OBJECTS:${module}>")
endforeach()
set_target_properties(taipan_lib PROPERTIES
  OUTPUT_NAME taipan EXPORT_NAME taipan LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_compile_features(taipan_lib INTERFACE cxx_std_20)
target_include_directories(taipan_lib INTERFACE
  "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
target_link_libraries(taipan_lib PRIVATE ${externals})

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/taipan")
install(TARGETS taipan_program RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(TARGETS taipan_lib EXPORT taipanTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/taipan" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(EXPORT taipanTargets NAMESPACE taipan:: DESTINATION "${package_dir}")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/taipanConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/taipanConfig.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/taipanConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/taipanConfig.cmake" "${PROJECT_BINARY_DIR}/taipanConfigVersion.cmake"
  DESTINATION "${package_dir}")
if(NOT BUILD_SHARED_LIBS)
  install(FILES "${CMAKE_CURRENT_LIST_DIR}/FindDNNL.cmake" DESTINATION "${package_dir}")
endif()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/models" DESTINATION "${CMAKE_INSTALL_DATADIR}/taipan")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
