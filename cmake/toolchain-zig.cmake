# Cross build with Clang from PyPI's `ziglang`, which brings the C and C++ libraries of every target. scripts/prebuild.mjs
# passes ND_ZIG_TOOLS, a folder with the programs c++, ar and ranlib for the target, and the two names of the target.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ND_ZIG_TOOLS ND_ZIG_SYSTEM ND_ZIG_PROCESSOR)
set(CMAKE_SYSTEM_NAME ${ND_ZIG_SYSTEM})
set(CMAKE_SYSTEM_PROCESSOR ${ND_ZIG_PROCESSOR})
set(CMAKE_CXX_COMPILER "${ND_ZIG_TOOLS}/c++")
set(CMAKE_AR "${ND_ZIG_TOOLS}/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${ND_ZIG_TOOLS}/ranlib" CACHE FILEPATH "")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# zig knows no -march=armv8.2-a+dotprod.
set(ND_ARMV8_2 -mcpu=generic+v8_2a)
if(ND_ZIG_SYSTEM STREQUAL "Darwin")
  set(ND_ARMV8_2 -mcpu=apple_m1)
endif()
# To zig, -Oz is -Os. Only what becomes smaller by it is inlined, and functions with the same code are one: a fifth smaller
# than -Os. Where zig can, it optimizes these files as one, which is another tenth.
set(ND_SMALL -Oz -Xclang=-Oz -mllvm=-inline-threshold=0 -Xclang=-fmerge-functions)
if(NOT ND_ZIG_SYSTEM STREQUAL "Darwin")
  list(APPEND ND_SMALL -flto)
endif()
