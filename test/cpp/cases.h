// The shapes of real layers, for tests (fewer rows and columns of them) and benchmarks alike.
#pragma once
#include <cstdint>

#include "cpu/kernels/kernels.h"

namespace nd::cases {

/// runs = 3: a 3×3 convolution's rows over NHWC (kx and channels contiguous); 1: a linear layer or 1×1
/// convolution.
struct Gemm {
  const char* layer;
  int64_t m, n, k, runs;
  Activation activation;
};

constexpr Gemm kGemms[] = {
    {"unet conv 320 at 64x64", 4096, 320, 2880, 3, Activation::none},
    {"unet conv 640 at 32x32", 1024, 640, 5760, 3, Activation::none},
    {"unet conv 1280 at 16x16", 256, 1280, 11520, 3, Activation::none},
    {"unet conv 1280 at 8x8", 64, 1280, 11520, 3, Activation::none},
    {"unet geglu 320", 4096, 2560, 320, 1, Activation::geglu},
    {"unet feed forward 1280 to 320", 4096, 320, 1280, 1, Activation::none},
    {"unet projection 320", 4096, 320, 320, 1, Activation::none},
    {"unet geglu 1280", 256, 10240, 1280, 1, Activation::geglu},
    {"unet output conv", 4096, 4, 2880, 3, Activation::none},
    {"unet input conv", 4096, 320, 36, 3, Activation::none},
    {"unet context keys", 154, 320, 768, 1, Activation::none},
    {"text feed forward", 77, 3072, 768, 1, Activation::quick_gelu},
    {"vae conv 128 at 512x512", 262144, 128, 1152, 3, Activation::none},
    {"vae conv 256 at 256x256", 65536, 256, 2304, 3, Activation::none},
    {"vae output conv", 262144, 3, 1152, 3, Activation::none},
};

struct Attention {
  const char* layer;
  int64_t q_len, k_len, heads, head_dim;
  bool causal;
};

constexpr Attention kAttentions[] = {
    {"unet self 64x64", 4096, 4096, 8, 40, false}, {"unet self 32x32", 1024, 1024, 8, 80, false},
    {"unet self 16x16", 256, 256, 8, 160, false},  {"unet self 8x8", 64, 64, 8, 160, false},
    {"unet cross 64x64", 4096, 77, 8, 40, false},  {"unet cross 32x32", 1024, 77, 8, 80, false},
    {"sd2 self 64x64", 4096, 4096, 5, 64, false},  {"vae mid block", 4096, 4096, 1, 512, false},
    {"text encoder", 77, 77, 12, 64, true},
};

}  // namespace nd::cases
