#include "cuda/layers/codebook.h"

namespace nd::cuda {

Codebook::Codebook(const Device& device, Loader& loader, const StoredTensor& codes)
    : nd::Codebook(codes.shape[0], codes.shape[1]), values_(static_cast<size_t>(size() * width())) {
  for (int64_t i = 0; i < size(); ++i)
    codes.read(scalar_decoders, i * width(), width(), values_.data() + i * width());
  table_ = Buffer::of(device, loader, values_);
}

void Codebook::quantize(ForwardContext& base, const Tensor& latents, int32_t* codes) const {
  Context& ctx = Context::of(base);
  const int64_t count = latents.rows();
  const Scratch<int32_t> found(ctx, count);
  const NearestArgs args{data(latents),  pointer<float>(table_.address()),
                         found.data(),   narrow(count),
                         narrow(size()), narrow(width())};
  ctx.launch(Kernel::nearest, {pieces_of(count * 32, kMoveThreads)}, args);
  ctx.to_host([codes, from = found.address(), count](Staging& staging) {
    staging.download(codes, from, static_cast<size_t>(count) * sizeof(int32_t));
  });
}

void Codebook::lookup(const int32_t* codes, int64_t n, int64_t pixels, float* latents) const {
  for (int64_t image = 0; image < n; ++image)
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t j = 0; j < width(); ++j)
        latents[(image * width() + j) * pixels + p] =
            values_[static_cast<size_t>(codes[image * pixels + p] * width() + j)];
}

}  // namespace nd::cuda
