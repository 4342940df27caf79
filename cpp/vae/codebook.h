// Vector quantization (van den Oord et al. 2017): each pixel of the latents as the index of its nearest code.
#pragma once
#include <cstdint>
#include <vector>

#include "core/weights.h"
#include "nn/run.h"

namespace nd {

class Codebook {
 public:
  Codebook() = default;
  Codebook(Loader& loader, const std::string& name, int64_t size, int64_t width);

  int64_t size() const { return size_; }
  int64_t width() const { return width_; }

  /// latents [n][width][pixels] → codes [n][pixels]: argmin over e of ‖z−e‖², the first of equals.
  void quantize(Run& run, const float* latents, int64_t n, int64_t pixels, int32_t* codes) const;
  /// codes [n][pixels] → latents [n][width][pixels]. Error invalid_argument: a code outside the book.
  void lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const;

 private:
  std::vector<float> transposed_;  // [width][size]: distances to neighbouring codes are computed side by side
  int64_t size_ = 0, width_ = 0;
};

}  // namespace nd
