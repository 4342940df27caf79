#include "unet/repeated.h"

#include "nn/resident.h"
#include "unet/image_prompts.h"
#include "unet/input_changes.h"
#include "unet/kept_tensors.h"
#include "weights/formats/half.h"

namespace nd {

void StagedNumbers::make_room(int64_t latent_floats, size_t shift_bytes, int64_t out_floats) {
  const auto grow = [&](auto& values, size_t size) {
    if (size <= values.size()) return;
    values.resize(size);
    ++place;
  };
  grow(latents, static_cast<size_t>(latent_floats));
  grow(shifts, shift_bytes);
  grow(out, static_cast<size_t>(out_floats));
}

void append(ForwardKey& key, const std::vector<float>& values) {
  append(key, values.size());
  for (const float value : values) append(key, bits_of(value));
}

ForwardKey key_of(const UnetInput& input, const PackedContext& context, const StagedNumbers& staged) {
  const Conditioning& conditioning = input.conditioning;
  ForwardKey key;
  for (const int64_t size : {input.n, input.h, input.w, context.length}) append(key, size);
  append(key, staged.place);
  append(key, input.resident != nullptr);
  if (input.resident) input.resident->describe(key);
  for (int64_t i = 0; i < input.n; ++i) append(key, context.images ? context.images[i].value : 0);
  append(key, conditioning.residuals != nullptr);
  if (conditioning.residuals) conditioning.residuals->describe(key);
  append(key, conditioning.images ? conditioning.images->size() : 0);
  if (conditioning.images)
    for (const ImagePrompt& prompt : *conditioning.images) prompt.describe(key);
  append(key, conditioning.inputs ? conditioning.inputs->size() : 0);
  if (conditioning.inputs)
    for (const ChangedInputs& one : *conditioning.inputs) one.describe(key);
  append(key, conditioning.features.size());
  for (const AddedFeatures& features : conditioning.features) {
    features.kept->describe(key);
    append(key, features.first);
    append(key, features.count);
    append(key, features.scales);
  }
  return key;
}

}  // namespace nd
