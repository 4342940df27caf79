# The Node addon. cmake-js gives the headers' place; without it they come from the registry's node-api-headers.
file(GLOB ND_BINDING_SOURCES CONFIGURE_DEPENDS binding/*.cpp)
if(NOT ND_BINDING_SOURCES)
  message(STATUS "binding/ has no sources yet: no addon")
  return()
endif()

if(NOT CMAKE_JS_INC)
  set(CMAKE_JS_INC "${CMAKE_CURRENT_SOURCE_DIR}/node_modules/node-api-headers/include")
  if(NOT EXISTS "${CMAKE_JS_INC}/node_api.h")
    message(FATAL_ERROR "node_api.h not found in ${CMAKE_JS_INC}. Run `npm install` first.")
  endif()
endif()

add_library(node_diffusion SHARED ${ND_BINDING_SOURCES} ${CMAKE_JS_SRC})
set_target_properties(node_diffusion PROPERTIES PREFIX "" SUFFIX ".node")
target_include_directories(node_diffusion SYSTEM PRIVATE
  ${CMAKE_JS_INC} "${CMAKE_CURRENT_SOURCE_DIR}/node_modules/node-addon-api")
target_compile_definitions(node_diffusion PRIVATE NAPI_VERSION=8 NODE_ADDON_API_CPP_EXCEPTIONS
  NODE_ADDON_API_DISABLE_DEPRECATED)
target_link_libraries(node_diffusion PRIVATE node_diffusion_cuda engine ${CMAKE_JS_LIB})
if(APPLE)
  target_link_options(node_diffusion PRIVATE -undefined dynamic_lookup)
endif()
