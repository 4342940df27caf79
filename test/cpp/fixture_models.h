// Loading models of the fixtures without TypeScript.
#pragma once
#include <string>
#include <vector>

#include "core/weights.h"
#include "unet/config.h"

namespace nd::test {

/// The table of a sound safetensors file as Python writes it; TypeScript has the parser for all others.
void add_safetensors(WeightTable& table, const std::string& path);

/// Numbers in [−1, 1) that depend on `seed` alone.
std::vector<float> noise(const std::string& seed, int64_t count);

/// Of the fixture "sd1".
UnetConfig unet_config();

}  // namespace nd::test
