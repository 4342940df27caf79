# Flags that every translation unit shares, as the interface library nd_flags.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
# Assertions on, the standard library's, too. Not -O0: the kernels' intrinsics need folded constants, and speed.
set(CMAKE_CXX_FLAGS_DEBUG "-Og -g -D_GLIBCXX_ASSERTIONS")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_library(nd_flags INTERFACE)
# Neither errno nor floating-point traps are read. Never -ffast-math: NaN and infinity must behave.
target_compile_options(nd_flags INTERFACE -Wall -Wextra -fno-math-errno -fno-trapping-math)

if(ND_SANITIZE)
  target_compile_options(nd_flags INTERFACE -fsanitize=${ND_SANITIZE} -fno-sanitize-recover=all
                                            -fno-omit-frame-pointer -g -O1)
  target_link_options(nd_flags INTERFACE -fsanitize=${ND_SANITIZE})
endif()
