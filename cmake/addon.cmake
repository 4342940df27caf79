# The Node addon. The headers of Node-API come from the registry's packages; the published package brings copies of them.
file(GLOB ND_BINDING_SOURCES CONFIGURE_DEPENDS binding/*.cpp)

function(nd_find_headers variable file)
  foreach(folder IN LISTS ARGN)
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/${file}")
      set(${variable} "${CMAKE_CURRENT_SOURCE_DIR}/${folder}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "${file} was not found in ${ARGN}. Run `npm install` first.")
endfunction()
nd_find_headers(ND_NODE_API node_api.h node_modules/node-api-headers/include headers/node-api)
nd_find_headers(ND_NODE_ADDON_API napi.h node_modules/node-addon-api headers/node-addon-api)

add_library(node_diffusion SHARED ${ND_BINDING_SOURCES})
set_target_properties(node_diffusion PROPERTIES PREFIX "" SUFFIX ".node")
if(CMAKE_LIBRARY_OUTPUT_DIRECTORY)
  # Without a subfolder for each configuration; to CMake, a DLL is a program.
  foreach(kind LIBRARY RUNTIME)
    set_target_properties(node_diffusion PROPERTIES ${kind}_OUTPUT_DIRECTORY "$<1:${CMAKE_LIBRARY_OUTPUT_DIRECTORY}>")
  endforeach()
endif()
target_include_directories(node_diffusion SYSTEM PRIVATE ${ND_NODE_API} ${ND_NODE_ADDON_API})
target_compile_definitions(node_diffusion PRIVATE NAPI_VERSION=8 NODE_ADDON_API_CPP_EXCEPTIONS
  NODE_ADDON_API_DISABLE_DEPRECATED)
target_compile_options(node_diffusion PRIVATE ${nd_small})
target_link_libraries(node_diffusion PRIVATE node_diffusion_cuda engine)
if(ND_ZIG_SYSTEM AND NOT APPLE) # zig links libc++ statically; macOS has its own
  target_sources(node_diffusion PRIVATE binding/zig/no_demangler.cpp)
endif()
if(APPLE)
  target_link_options(node_diffusion PRIVATE -undefined dynamic_lookup)
  # Otherwise, the folder that it was built in is its name.
  set_target_properties(node_diffusion PROPERTIES BUILD_WITH_INSTALL_NAME_DIR ON INSTALL_NAME_DIR "@rpath")
elseif(WIN32)
  # A list of the functions for node_api_thunks.cpp.
  nd_find_headers(definitions node_api.def node_modules/node-api-headers/def headers/node-api)
  file(STRINGS "${definitions}/node_api.def" names REGEX "^ *(napi|node_api)_")
  list(TRANSFORM names STRIP)
  list(TRANSFORM names REPLACE "(.+)" "ND_NODE_API(\\1)")
  list(JOIN names "\n" names)
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/node_api_names.inc" "${names}\n")
  target_sources(node_diffusion PRIVATE binding/windows/node_api_thunks.cpp)
  set_source_files_properties(binding/windows/node_api_thunks.cpp PROPERTIES
    COMPILE_DEFINITIONS "ND_NODE_API_NAMES=\"${CMAKE_CURRENT_BINARY_DIR}/node_api_names.inc\"")
endif()
