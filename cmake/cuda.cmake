# The CUDA backend, its kernels for GPUs (where nvcc is at hand), and its tests on an emulator, which runs the same kernels
# on the CPU. The backend's own code is a small part of the addon: it opens the driver at run time. The kernels are files
# beside the addon, see scripts/build-cuda.mjs.
set(ND_HAS_CUDA_DRIVER ON)
if(APPLE OR (WIN32 AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$"))
  set(ND_HAS_CUDA_DRIVER OFF)
endif()
option(ND_CUDA_BACKEND "Build the CUDA backend; otherwise, devices are reported as unavailable" ${ND_HAS_CUDA_DRIVER})
if(ND_CUDA_BACKEND)
  file(GLOB ND_CUDA_SOURCES CONFIGURE_DEPENDS cpp/cuda/*.cpp cpp/cuda/layers/*.cpp cpp/cuda/trial/*.cpp)
else()
  file(GLOB ND_CUDA_SOURCES CONFIGURE_DEPENDS cpp/cuda/unavailable/*.cpp)
endif()
add_library(node_diffusion_cuda STATIC ${ND_CUDA_SOURCES})
# The GPU computes: all is compiled for size but what converts weights and activations on their way there.
list(FILTER ND_CUDA_SOURCES EXCLUDE REGEX "cpp/cuda/(transfer|layers/embedding|layers/product).cpp")
set_source_files_properties(${ND_CUDA_SOURCES} PROPERTIES COMPILE_OPTIONS "${nd_small}")
target_link_libraries(node_diffusion_cuda PUBLIC engine ${CMAKE_DL_LIBS})
if(NOT ND_CUDA_BACKEND)
  return()
endif()

file(GLOB ND_CUDA_KERNELS CONFIGURE_DEPENDS cpp/cuda/kernels/*.cu)
file(GLOB ND_CUDA_TEST_KERNELS CONFIGURE_DEPENDS test/cuda/kernels/*.cu)

# --- for GPUs ---------------------------------------------------------------------------------------------------------
# One fat binary of all kernels, and one of the tests' own: nd_fatbin(target architectures sources… )
set(ND_CUDA_ARCHITECTURES "75;80;86;89;90a;120" CACHE STRING "Compute capabilities that the kernels are built for")
set(ND_CUDA_TEST_ARCHITECTURES "75;80;86;89;90a;120" CACHE STRING "Those that the tests' own kernels are built for")
find_program(ND_NVCC nvcc PATHS /usr/local/cuda/bin)
function(nd_fatbin target architectures)
  set(gencode)
  foreach(arch IN LISTS architectures)
    list(APPEND gencode "-gencode=arch=compute_${arch},code=sm_${arch}")
  endforeach()
  set(all "${CMAKE_CURRENT_BINARY_DIR}/${target}.cu")
  set(text "")
  foreach(source IN LISTS ARGN)
    string(APPEND text "#include \"${source}\"\n")
  endforeach()
  file(GENERATE OUTPUT "${all}" CONTENT "${text}")
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${target}.fatbin")
  file(GLOB headers CONFIGURE_DEPENDS cpp/cuda/kernels/*.h test/cuda/kernels/*.h)
  add_custom_command(OUTPUT "${output}"
    COMMAND "${ND_NVCC}" -std=c++17 -O3 ${gencode} -fatbin "-I${CMAKE_CURRENT_SOURCE_DIR}/cpp"
      "-I${CMAKE_CURRENT_SOURCE_DIR}/test" -o "${output}" "${all}"
    DEPENDS "${all}" ${ARGN} ${headers} VERBATIM)
  add_custom_target(${target} DEPENDS "${output}")
endfunction()
if(ND_CUDA)
  if(NOT ND_NVCC)
    message(FATAL_ERROR "ND_CUDA needs nvcc, of CUDA 12.0 or newer. From PyPI: nvidia-cuda-nvcc, see scripts/check-kernels.mjs.")
  endif()
  nd_fatbin(cuda-kernels "${ND_CUDA_ARCHITECTURES}" ${ND_CUDA_KERNELS})
  if(ND_TESTS)
    nd_fatbin(cuda-test-kernels "${ND_CUDA_TEST_ARCHITECTURES}" ${ND_CUDA_TEST_KERNELS})
  endif()
endif()

# --- benchmarks -------------------------------------------------------------------------------------------------------
if(ND_TESTS)
  file(GLOB ND_CUDA_BENCH CONFIGURE_DEPENDS bench/cuda/*.cpp)
  add_executable(cuda-bench EXCLUDE_FROM_ALL ${ND_CUDA_BENCH})
  target_include_directories(cuda-bench PRIVATE bench/cuda)
  target_compile_definitions(cuda-bench PRIVATE ND_CUDA_IMAGE="${CMAKE_CURRENT_BINARY_DIR}/cuda-kernels.fatbin")
  target_link_libraries(cuda-bench PRIVATE node_diffusion_cuda)
endif()

# --- the emulator -----------------------------------------------------------------------------------------------------
if(NOT ND_CUDA_EMULATOR)
  return()
endif()
set(emulator test/cuda/emulator)
add_library(cuda-emulator STATIC ${emulator}/block.cpp ${emulator}/driver.cpp
  ${emulator}/driver_contexts.cpp ${emulator}/driver_memory.cpp ${emulator}/driver_streams.cpp ${emulator}/earlier.cpp
  ${emulator}/fibers.cpp ${emulator}/hopper.cpp ${emulator}/launch.cpp ${emulator}/matrices.cpp ${emulator}/memory.cpp)
target_include_directories(cuda-emulator PUBLIC ${emulator})
target_link_libraries(cuda-emulator PUBLIC node_diffusion_cuda)
# Conversions of halves in one instruction; 64-bit Arm has it always.
set(nd_emulator_flags)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(nd_emulator_flags -mavx2 -mfma -mf16c)
endif()
target_compile_options(cuda-emulator PUBLIC ${nd_emulator_flags})

# Kernels are C++ to the host's compiler. Products and sums are fused, as nvcc fuses
# them. Optimised for speed, and instrumented so that every access is watched.
set_source_files_properties(${ND_CUDA_KERNELS} ${ND_CUDA_TEST_KERNELS} PROPERTIES LANGUAGE CXX
  COMPILE_OPTIONS "-x;c++;-ffp-contract=fast;-Wno-unknown-pragmas;-Wno-sign-compare;-Wno-psabi")
function(nd_emulated_kernels name)
  add_library(${name} OBJECT ${ND_CUDA_KERNELS} ${ND_CUDA_TEST_KERNELS})
  target_compile_definitions(${name} PRIVATE ND_CUDA_EMULATED_KERNELS)
  target_include_directories(${name} PRIVATE cpp test ${emulator})
  target_link_libraries(${name} PRIVATE nd_flags)
  target_compile_options(${name} PRIVATE -include cuda_emulator.h ${nd_emulator_flags} -fno-strict-aliasing ${ARGN})
endfunction()
nd_emulated_kernels(cuda-kernels-emulated)
target_sources(cuda-kernels-emulated PRIVATE ${emulator}/no_checker.cpp)
nd_emulated_kernels(cuda-kernels-checked -fsanitize=thread -O1 -g)

# The emulator as a driver library, for tests of the addon: NODE_DIFFUSION_CUDA_DRIVER names it.
add_library(cuda-emulated-driver SHARED EXCLUDE_FROM_ALL $<TARGET_OBJECTS:cuda-kernels-emulated>
  ${emulator}/library.cpp)
target_link_libraries(cuda-emulated-driver PRIVATE cuda-emulator)

file(GLOB ND_CUDA_TESTS CONFIGURE_DEPENDS test/cuda/*.cpp)
add_library(cuda-test-cases OBJECT ${ND_CUDA_TESTS})
target_include_directories(cuda-test-cases PUBLIC test test/cpp)
target_compile_definitions(cuda-test-cases PRIVATE ${ND_FIXTURES}
  ND_CUDA_IMAGE="${CMAKE_CURRENT_BINARY_DIR}/cuda-kernels.fatbin"
  ND_CUDA_TEST_IMAGE="${CMAKE_CURRENT_BINARY_DIR}/cuda-test-kernels.fatbin")
target_link_libraries(cuda-test-cases PUBLIC cuda-emulator)

# engine-tests --device emulated, and --device cuda on a GPU. The rest of the program is compiled without the emulator's
# flags, for any CPU.
target_sources(engine-tests PRIVATE $<TARGET_OBJECTS:cuda-test-cases> $<TARGET_OBJECTS:cuda-kernels-emulated>)
target_link_libraries(engine-tests PRIVATE $<LINK_ONLY:cuda-emulator>)
add_executable(cuda-tests-checked $<TARGET_OBJECTS:cuda-test-cases> $<TARGET_OBJECTS:cuda-kernels-checked>
  ${emulator}/checker.cpp ${emulator}/thread_sanitizer.cpp test/cpp/harness.cpp test/cpp/fixture_models.cpp)
target_include_directories(cuda-tests-checked PRIVATE test/cpp)
target_compile_definitions(cuda-tests-checked PRIVATE ${ND_FIXTURES})
target_link_libraries(cuda-tests-checked PRIVATE cuda-emulator)
target_compile_definitions(cuda-bench PRIVATE ND_CUDA_EMULATOR)
target_sources(cuda-bench PRIVATE $<TARGET_OBJECTS:cuda-kernels-emulated>)
target_link_libraries(cuda-bench PRIVATE cuda-emulator)
