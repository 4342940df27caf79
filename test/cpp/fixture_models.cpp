#include "fixture_models.h"

#include <cstdlib>
#include <fstream>
#include <map>

#include "core/error.h"
#include "harness.h"

namespace nd::test {

std::vector<int64_t> numbers_after(const std::string& text, const char* key, size_t at) {
  std::vector<int64_t> result;
  const char* p = text.c_str() + text.find('[', text.find(key, at)) + 1;
  while (*p != ']') {
    char* end;
    result.push_back(std::strtoll(p, &end, 10));
    p = *end == ',' ? end + 1 : end;
    while (*p == ' ') ++p;
  }
  return result;
}

Backend& backend_of(const cpu::Kernels* kernels) {
  static std::map<const cpu::Kernels*, cpu::CpuBackend> backends;
  int count = 0;
  if (!kernels) kernels = cpu::available_kernels(&count)[0];
  return backends.try_emplace(kernels, *kernels, ThreadPool::shared()).first->second;
}

void add_safetensors(WeightTable& table, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), 8);
  std::string header(static_cast<size_t>(length), ' ');
  file.read(header.data(), static_cast<std::streamsize>(length));
  if (!file) throw Error(ErrorCode::io, path + " cannot be read");
  const int index = table.add_file(path);
  for (size_t at = header.find("\":{\"dtype\":\""); at != std::string::npos;
       at = header.find("\":{\"dtype\":\"", at + 1)) {
    const size_t begin = header.rfind('"', at - 1) + 1;
    const char kind = header[at + 12];
    if (kind != 'F' && kind != 'B') continue;  // position_ids
    const TensorType type = kind == 'B'              ? TensorType::bf16
                            : header[at + 13] == '1' ? TensorType::f16
                                                     : TensorType::f32;
    const std::vector<int64_t> place = numbers_after(header, "data_offsets", at);
    table.add(header.substr(begin, at - begin), type, numbers_after(header, "shape", at), false, index,
              8 + length + static_cast<uint64_t>(place[0]), static_cast<uint64_t>(place[1] - place[0]));
  }
}

void add_component(WeightTable& table, const std::string& path) {
  if (std::ifstream(path)) return add_safetensors(table, path);
  const std::string stem = path.substr(0, path.rfind('.'));
  for (const char* shard : {"-00001-of-00002", "-00002-of-00002"})
    add_safetensors(table, stem + shard + ".safetensors");
}

std::vector<float> noise(const std::string& seed, int64_t count) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = random.uniform();
  return values;
}

KUnetConfig k_unet_config() {
  KUnetConfig config;
  config.block_channels = {32, 32};
  config.layers_per_block = {2, 2};
  config.attends = {0, 1};
  config.head_width = 16;
  config.context_width = 24;
  config.time_width = 32;
  config.condition_width = 152;
  config.norm_eps = 1e-4f;
  config.flip_sin_to_cos = false;
  return config;
}

UnetConfig unet_config() {
  UnetConfig config;
  config.block_channels = {8, 8, 16, 16};
  config.layers_per_block = {2, 2, 2, 2};
  config.down_transformer_depth = config.up_transformer_depth = {1, 1, 1, 0};
  config.heads = {8, 8, 8, 8};
  config.context_width = 20;
  config.norm_groups = 4;
  return config;
}

TextEncoderConfig text_encoder_config() {
  TextEncoderConfig config;
  config.vocab_size = 131;
  config.width = 32;
  config.layers = 3;
  config.heads = 4;
  config.intermediate = 72;
  return config;
}

ImageEncoderConfig image_encoder_config() {
  ImageEncoderConfig config;
  config.image_size = 32;
  config.patch_size = 8;
  config.width = 36;
  config.layers = 3;
  config.heads = 3;
  config.intermediate = 48;
  config.activation = Activation::gelu;
  config.projection_width = 20;
  return config;
}

std::unique_ptr<Unet> load_fixture_unet(Backend& backend, const CancelToken* cancel) {
  return load_model<Unet>(backend, "sd1/unet/diffusion_pytorch_model.safetensors", unet_config(), cancel,
                          Precision::f32);
}

std::vector<float> predict_one(Unet& unet, const CancelToken* cancel) {
  const std::vector<float> latents = noise("latents", 4 * 8 * 8), context = noise("context", 9 * 20);
  const float timestep = 500;
  std::vector<float> out(latents.size());
  unet.predict({latents.data(), 1, 8, 8, {&timestep, context.data(), 9}}, out.data(), cancel);
  return out;
}

}  // namespace nd::test
