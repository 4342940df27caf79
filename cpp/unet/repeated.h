// A denoising run repeats a forward once a step with other numbers, see Workspace::run_repeated(): where
// those numbers lie, and what makes two forwards the same.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/layers.h"
#include "unet/conditioning.h"

namespace nd {

/// Everything that the kernels of a forward and their arguments depend on. What is new in a forward belongs
/// there.
using ForwardKey = std::vector<uint64_t>;

/// Input and output of repeated forwards on the host. They only grow, also with trim(), as recordings refer
/// to them; `place` counts how often one has moved.
struct StagedNumbers {
  std::vector<float> latents, out;
  std::vector<uint8_t> shifts;  // elements of the device's tensors
  uint64_t place = 0;
  void make_room(int64_t latent_floats, size_t shift_bytes, int64_t out_floats);
};

/// The part of a key that UNets and ControlNets have in common: sizes, the context's place, and all
/// conditions that are kept in the device's memory.
ForwardKey key_of(const UnetInput& input, const PackedContext& context, const StagedNumbers& staged);

/// Appends a number, or the bits of one.
template <class T>
void append(ForwardKey& key, T value) {
  key.push_back(static_cast<uint64_t>(value));
}
void append(ForwardKey& key, const std::vector<float>& values);

}  // namespace nd
