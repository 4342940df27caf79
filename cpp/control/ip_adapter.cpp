#include "control/ip_adapter.h"

#include <mutex>
#include <string>

#include "core/require.h"

namespace nd {
namespace {

/// Calls use(height, width) with the size of each level's features.
template <class Use>
void each_level(const UnetConfig& unet, int64_t h, int64_t w, const Use& use) {
  for (int64_t level = 0; level < unet.levels(); ++level) {
    use(h, w);
    h = (h + 1) / 2;
    w = (w + 1) / 2;
  }
}

/// N of the file for attention `index` in the order of loading.
size_t stored_number(const CrossAttentions& attentions, size_t index) {
  const size_t decoder = attentions.inner.size() - attentions.encoder - attentions.middle;
  if (index >= attentions.encoder + attentions.middle)
    index -= attentions.middle;
  else if (index >= attentions.encoder)
    index += decoder;
  return 2 * index + 1;
}

}  // namespace

void IpAdapterConfig::check() const {
  projection.check();
  unet.check();
  require(projection.context_width == unet.context_width,
          "Expected an IP-Adapter's contextWidth of " + std::to_string(unet.context_width) +
              " but received " + std::to_string(projection.context_width));
  for (int64_t level = 0; level < unet.levels(); ++level)
    require(!unet.only_cross(level), "Expected an IP-Adapter for a UNet without onlyCrossAttention");
}

IpAdapter::IpAdapter(const IpAdapterConfig& config, Loader& loader)
    : config_((config.check(), config)),
      backend_(loader.backend()),
      projection_(config.projection, loader, "image_proj."),
      workspace_(backend_) {
  const CrossAttentions attentions = cross_attentions(config.unet);
  for (size_t i = 0; i < attentions.inner.size(); ++i) {
    const std::string prefix = "ip_adapter." + std::to_string(stored_number(attentions, i));
    keys_values_.push_back(loader.linear_pair(prefix + ".to_k_ip", prefix + ".to_v_ip",
                                              config.unet.context_width, attentions.inner[i]));
  }
}

int64_t IpAdapter::mask_floats(int64_t h, int64_t w) const {
  int64_t sum = 0;
  each_level(config_.unet, h, w, [&](int64_t height, int64_t width) { sum += height * width; });
  return sum;
}

void IpAdapter::forward(ForwardContext& ctx, const ImagePromptInput& input, KeptTensors& to) const {
  const auto [embeddings, count, images, rows, masks, h, w, faces] = input;
  Tensor x(ctx, count * images, 1, rows, config_.projection.width);
  backend_.put(ctx, embeddings, x, 0, x.rows());
  Tensor face;
  if (config_.projection.face_width > 0) {
    face = Tensor(ctx, count * images, 1, 1, config_.projection.face_width);
    backend_.put(ctx, faces, face, 0, face.rows());
  }
  x = projection_.forward(ctx, x, &face);
  // The images of a prompt are one context.
  const Tensor tokens = Tensor::borrowed(x.address(), count, 1, images * x.pixels(), x.c);
  if (!ctx.measuring()) to.allocate(ctx);
  for (size_t i = 0; i < keys_values_.size(); ++i) {
    const Tensor one = keys_values_[i]->forward(ctx, tokens);
    if (ctx.measuring())
      to.expect(i, count, 1, one.pixels(), one.c);
    else
      backend_.copy_rows(ctx, one, 0, to.view(i), 0, one.rows());
  }
  if (h == 0) return;
  size_t index = keys_values_.size();
  const float* mask = masks;
  each_level(config_.unet, h, w, [&](int64_t height, int64_t width) {
    if (ctx.measuring()) return to.expect(index++, 1, height, width, 1);
    backend_.put(ctx, mask, to.view(index++), 0, height * width);
    mask += height * width;
  });
}

void IpAdapter::encode(const ImagePromptInput& input, KeptTensors& to, const CancelToken* cancel) {
  require(input.count >= 1 && input.images >= 1 && input.rows >= 1,
          "Expected embeddings of at least one element in each dimension");
  const std::lock_guard<std::mutex> lock(to.mutex);
  workspace_.run(cancel, [&](ForwardContext& ctx) { forward(ctx, input, to); });
  workspace_.trim();
}

ImagePromptMemory IpAdapter::memory(const ImagePromptInput& input) const {
  KeptTensors kept;
  ImagePromptMemory bytes;
  bytes.working = Workspace::measure(backend_, [&](ForwardContext& ctx) { forward(ctx, input, kept); });
  bytes.kept = kept.bytes(backend_.element_bytes());
  return bytes;
}

}  // namespace nd
