// All limits of what JavaScript may pass to the engine. lib/ reads them as `native().limits`, so that each
// limit is defined once. They are far above any published model. They prevent a manipulated file from
// requesting millions of layers, and keep all products of sizes below 2^63.
#pragma once
#include <cstdint>

#include "unet/caches.h"

namespace nd_binding {

struct Limits {
  // Of a configuration.
  static constexpr int64_t levels = 8;             // resolution levels
  static constexpr int64_t layers_per_level = 32;  // residual blocks
  static constexpr int64_t transformer_depth = 32;
  static constexpr int64_t text_layers = 96;
  static constexpr int64_t channels = int64_t{1} << 15;      // of any layer, and so heads and groups
  static constexpr int64_t feed_forward = int64_t{1} << 17;  // hidden width of a text encoder's layers
  static constexpr int64_t vocabulary = int64_t{1} << 24;    // tokens of a text encoder, codes of a codebook
  // Transformer blocks of a whole UNet.
  static constexpr int64_t attentions = 3 * levels * layers_per_level * transformer_depth;
  static constexpr int64_t control_types = 256;           // kinds of pictures of a union ControlNet
  static constexpr int64_t positions = int64_t{1} << 16;  // tokens in one row
  // Of a call.
  static constexpr int64_t batch = int64_t{1} << 16;
  static constexpr int64_t side = int64_t{1} << 24;  // pixels or latents along one side; tokens of a context
  static constexpr int64_t pixels = int64_t{1} << 41;  // of a whole batch
  static constexpr int64_t timesteps = int64_t{1} << 16;
  static constexpr int64_t threads = 256;
  static constexpr int64_t images = 1024;        // that an image encoder takes at once
  static constexpr int64_t image_side = 4096;    // of such an image
  static constexpr int64_t adapter_factor = 64;  // pixels that a T2I-Adapter makes one of, along one side
  // Of a stored tensor.
  static constexpr int64_t rank = 8;
  static constexpr int64_t dimension = int64_t{1} << 31;
  static constexpr int64_t elements = int64_t{1} << 48;
  static constexpr int64_t bytes = int64_t{1} << 53;  // what a JavaScript number holds exactly
};

/// The limits that lib/ reads, with their names there.
struct NamedLimit {
  const char* name;
  int64_t value;
};
constexpr NamedLimit kNamedLimits[] = {
    {"levels", Limits::levels},
    {"layersPerLevel", Limits::layers_per_level},
    {"transformerDepth", Limits::transformer_depth},
    {"textLayers", Limits::text_layers},
    {"channels", Limits::channels},
    {"feedForward", Limits::feed_forward},
    {"vocabulary", Limits::vocabulary},
    {"positions", Limits::positions},
    {"controlTypes", Limits::control_types},
    {"threads", Limits::threads},
    {"preparedTimesteps", nd::TimestepCache::kMaxEntries},
};

}  // namespace nd_binding
