# oneDNN 2.x or 3.x as DNNL::dnnl. Debian's own dnnl-config.cmake asks for OpenCL headers, which nothing here needs.
find_path(DNNL_INCLUDE_DIR NAMES dnnl.hpp PATH_SUFFIXES include)
find_library(DNNL_LIBRARY NAMES dnnl)

if(DNNL_INCLUDE_DIR)
  foreach(header oneapi/dnnl/dnnl_version.h dnnl_version.h)
    if(EXISTS "${DNNL_INCLUDE_DIR}/${header}" AND NOT DNNL_VERSION)
      foreach(part MAJOR MINOR PATCH)
        file(STRINGS "${DNNL_INCLUDE_DIR}/${header}" line REGEX "^#define DNNL_VERSION_${part} +[0-9]+")
        string(REGEX REPLACE "^.* ([0-9]+).*$" "\\1" DNNL_VERSION_${part} "${line}")
      endforeach()
      set(DNNL_VERSION "${DNNL_VERSION_MAJOR}.${DNNL_VERSION_MINOR}.${DNNL_VERSION_PATCH}")
    endif()
  endforeach()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(DNNL REQUIRED_VARS DNNL_LIBRARY DNNL_INCLUDE_DIR VERSION_VAR DNNL_VERSION)
mark_as_advanced(DNNL_INCLUDE_DIR DNNL_LIBRARY)

if(DNNL_FOUND AND NOT TARGET DNNL::dnnl)
  add_library(DNNL::dnnl UNKNOWN IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES
    IMPORTED_LOCATION "${DNNL_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${DNNL_INCLUDE_DIR}")
endif()
