# One translation unit for each instruction set, with its own flags; everything else is built for the baseline, so that
# the library loads on any CPU of its architecture and dispatch.cpp chooses.
function(nd_kernels source definition)
  target_sources(engine PRIVATE cpp/cpu/kernels/simd/${source})
  target_compile_definitions(engine PUBLIC ${definition})
  set_source_files_properties(cpp/cpu/kernels/simd/${source} PROPERTIES COMPILE_OPTIONS "${ARGN}")
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  nd_kernels(avx512.cpp ND_X86_KERNELS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c
    -mprefer-vector-width=512)
  nd_kernels(low_avx512.cpp ND_X86_KERNELS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16
    -mavx2 -mfma -mf16c -mprefer-vector-width=512 -Wno-unused-function)
  nd_kernels(attention_avx512bf16.cpp ND_X86_KERNELS -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16
    -mavx2 -mfma -mf16c -mprefer-vector-width=512 -Wno-unused-function)
  nd_kernels(avx2.cpp ND_X86_KERNELS -mavx2 -mfma -mf16c)
  nd_kernels(low_avx2.cpp ND_X86_KERNELS -mavx2 -mfma -mf16c -Wno-unused-function)
  nd_kernels(low_avxvnni.cpp ND_X86_KERNELS -mavx2 -mfma -mf16c -Wno-unused-function)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  nd_kernels(neon.cpp ND_NEON_KERNELS)
  nd_kernels(low_neon_dotprod.cpp ND_NEON_KERNELS -march=armv8.2-a+dotprod -Wno-unused-function)
  nd_kernels(low_neon_i8mm.cpp ND_NEON_KERNELS -march=armv8.2-a+i8mm -Wno-unused-function)
  nd_kernels(low_neon_bf16.cpp ND_NEON_KERNELS -march=armv8.2-a+bf16 -Wno-unused-function)
endif()
