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
if(MSVC)
  set(CMAKE_CXX_FLAGS_RELEASE "/O2 /clang:-O3 /DNDEBUG")
else()
  set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
  # Assertions on, the standard library's, too. Not -O0: the kernels' intrinsics need folded constants, and speed.
  set(CMAKE_CXX_FLAGS_DEBUG "-Og -g -D_GLIBCXX_ASSERTIONS")
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_library(nd_flags INTERFACE)
# Neither errno nor floating-point traps are read. Never -ffast-math: NaN and infinity must behave. Products and sums are
# fused only where the source says so (fma), so that every compiler gives the same bits.
set(nd_options -Wextra -fno-math-errno -fno-trapping-math -ffp-contract=off)
if(MSVC) # clang-cl, whose -Wall is -Weverything
  list(TRANSFORM nd_options PREPEND "/clang:")
  target_compile_options(nd_flags INTERFACE /W3 /EHsc ${nd_options})
else()
  target_compile_options(nd_flags INTERFACE -Wall ${nd_options})
endif()
if(MSVC) # the functions of Windows 10, the oldest version that Node.js runs on; MinGW's headers offer them
  target_compile_definitions(nd_flags INTERFACE _WIN32_WINNT=0x0A00)
endif()

if(ND_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ND_FUZZ needs Clang, which has libFuzzer: CXX=clang++ cmake --preset fuzz")
  endif()
  target_compile_options(nd_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(ND_SANITIZE)
  target_compile_options(nd_flags INTERFACE -fsanitize=${ND_SANITIZE} -fno-sanitize-recover=all
                                            -fno-omit-frame-pointer -g -O1)
  target_link_options(nd_flags INTERFACE -fsanitize=${ND_SANITIZE})
endif()
