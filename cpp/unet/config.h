// What makes one UNet2DConditionModel differ from another, as data.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nd {

/// Transformer blocks of the attentions of one level: one number for all of its layers, or one for each. 0:
/// no attention.
class Depths {
 public:
  Depths() = default;
  Depths(int64_t all) : values_{all} {}  // NOLINT(google-explicit-constructor): a number is a Depths
  explicit Depths(std::vector<int64_t> each) : values_(std::move(each)) {}

  const std::vector<int64_t>& values() const { return values_; }
  int64_t of(int64_t layer) const {
    return values_.size() == 1 ? values_[0] : values_.at(static_cast<size_t>(layer));
  }
  bool any() const;

 private:
  std::vector<int64_t> values_;
};

/// How UNet2DConditionModel embeds a class, beside the timestep.
enum class ClassEmbedding {
  none,
  table,       // a row of a table: diffusers' num_class_embeds
  timestep,    // a number, as the timestep is embedded
  projection,  // a vector, by the two layers that also embed the timestep
};

/// Vectors have one element for each resolution level, highest resolution first.
struct UnetConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  std::vector<int64_t> block_channels;
  std::vector<int64_t> layers_per_block;
  std::vector<Depths> down_transformer_depth;
  std::vector<Depths> up_transformer_depth;
  int64_t mid_transformer_depth = 1;  // −1: no middle block; 0: one residual block, no attention
  std::vector<int64_t> heads;
  /// 1 for each level of which the first attentions have the context in place of the image itself (the ×4
  /// upscaler), else 0; the middle block has none. Empty: no level has.
  std::vector<int64_t> only_cross_attention;
  int64_t context_width = 768;
  int64_t norm_groups = 32;
  float norm_eps = 1e-5f;
  bool flip_sin_to_cos = true;
  float freq_shift = 0;

  int64_t added_width = 0;       // of pooled text and embedded numbers together; 0: none are added
  int64_t added_time_width = 0;  // of one embedded number
  int64_t guidance_width = 0;    // of the embedded guidance scale; 0: the model has none
  ClassEmbedding class_embedding = ClassEmbedding::none;
  int64_t class_count = 0;  // rows of the table
  int64_t class_width = 0;  // of the projected vector
  /// Kinds of pictures of which each is embedded as a number, 1 where one is given and 0 where not (a union
  /// ControlNet). 0: the model has none.
  int64_t control_types = 0;

  int64_t levels() const { return static_cast<int64_t>(block_channels.size()); }
  int64_t time_width() const { return 4 * block_channels[0]; }
  bool has_attention() const;
  bool only_cross(int64_t level) const {
    return !only_cross_attention.empty() && only_cross_attention[static_cast<size_t>(level)] != 0;
  }
  /// The highest-resolution level with attention in the encoder or decoder, else the last.
  int64_t first_attention_level() const;
  /// Numbers of one row of Conditioning::classes.
  int64_t class_floats() const;
  /// Error invalid_argument names the invalid field.
  void check() const;
};

}  // namespace nd
