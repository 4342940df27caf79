#include "picture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "euler.h"
#include "measure.h"
#include "nn/resident.h"
#include "random_weights.h"
#include "unet/caches.h"
#include "weights/formats/traits.h"

namespace nd::cuda_bench {
namespace {

using Operation = ResidentOperation;

template <class Model, class Config>
std::unique_ptr<Model> load(const Config& config, cuda::CudaBackend& backend, TensorType type) {
  const RandomWeights weights(required_tensors<Model>(config), type);
  Loader loader(weights.table(), backend);
  return std::make_unique<Model>(config, loader);
}

// Tensors on the device beside those that a prediction reads and writes.
constexpr int64_t kScaled = ResidentTensors::kReserved, kGuided = kScaled + 1, kDenoised = kScaled + 2,
                  kLatents = kScaled + 3;  // and the next ones: each step reads one and writes the other

constexpr double kGuidance = 7.5;

}  // namespace

PictureModel::PictureModel(const ModelConfig& config, cuda::CudaBackend& backend, TensorType type)
    : config_(config), backend_(backend), quantized_(traits(type).block > 1) {
  for (const TextPart& part : config.texts) texts_.push_back(load<TextEncoder>(part.config, backend, type));
  unet_ = load<Unet>(config.unet, backend, type);
  // Quantizing leaves it as it is.
  vae_ = load<Vae>(config.vae, backend, TensorType::f16);
}

Picture PictureModel::draw(int64_t side, int64_t steps) {
  Picture picture;
  Conditions conditions(config_.unet, config_.vae.factor() * side);
  const double begin = now();
  for (const size_t row : {1, 0}) {
    std::vector<int32_t> tokens(kContextLength);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(31 * i + 7 * row);
    encode(tokens, row, conditions);
  }
  for (const std::unique_ptr<TextEncoder>& text : texts_) text->trim();
  const double encoded = now();
  std::vector<float> latents = denoise(conditions, side, steps, picture.finite);
  const double denoised = now();
  picture.pixels = decode(std::move(latents), side);
  picture.prompts = encoded - begin, picture.steps = denoised - encoded, picture.decode = now() - denoised;
  return picture;
}

void PictureModel::encode(const std::vector<int32_t>& tokens, size_t row, Conditions& conditions) {
  const size_t length = kContextLength, context = static_cast<size_t>(config_.unet.context_width);
  const int32_t end = static_cast<int32_t>(length) - 1;
  size_t at = 0;
  for (size_t i = 0; i < texts_.size(); ++i) {
    const TextPart& part = config_.texts[i];
    const size_t width = static_cast<size_t>(part.config.width);
    std::vector<float> hidden(length * width), pooled(static_cast<size_t>(part.config.pooled_width()));
    TextInput input;
    input.tokens = tokens.data(), input.n = 1, input.length = kContextLength;
    input.skip = part.skip, input.final_norm = part.final_norm;
    if (part.pools) input.pooled_positions = &end;
    texts_[i]->encode(input, hidden.data(), part.pools ? pooled.data() : nullptr, nullptr);
    for (size_t t = 0; t < length; ++t)
      std::copy_n(hidden.data() + t * width, width,
                  conditions.context.data() + (row * length + t) * context + at);
    if (part.pools) std::copy(pooled.begin(), pooled.end(), conditions.pooled.data() + row * pooled.size());
    at += width;
  }
}

std::vector<float> PictureModel::denoise(const Conditions& conditions, int64_t side, int64_t steps,
                                         bool& finite) {
  const EulerSchedule schedule(steps);
  const int64_t elements = config_.unet.in_channels * side * side;
  std::shared_ptr<ResidentTensors> resident = backend_.resident(1, elements, 0);
  ResidentProgram program;
  const auto add = [&](Operation::Kind kind, int64_t out, std::vector<Operation::Term> terms,
                       Operation::Check check = Operation::Check::nothing) {
    program.operations.push_back({kind, check, out, std::move(terms)});
  };
  int64_t latents = kLatents, next = kLatents + 1;
  program.uploads.push_back({latents, noise(elements, 1)});
  for (float& value : program.uploads[0].values) value *= static_cast<float>(schedule.first_deviation());
  // Timesteps with each row of conditions, as many as are kept.
  const int64_t rows = config_.unet.added_width ? 2 : 1, prepared = TimestepCache::kMaxEntries / rows;
  for (int64_t i = 0; i < steps; ++i) {
    const std::vector<float>& timesteps = schedule.timesteps();
    if (i % prepared == 0)
      prepare(conditions, {timesteps.begin() + i, timesteps.begin() + std::min(i + prepared, steps)});
    const double sigma = schedule.sigma(i);
    add(Operation::Kind::combine, kScaled, {{1 / std::sqrt(sigma * sigma + 1), latents}});
    add(Operation::Kind::combine, ResidentTensors::kInput, {{1, kScaled}});
    resident->stage(std::exchange(program, {}));
    const float both[] = {timesteps[static_cast<size_t>(i)], timesteps[static_cast<size_t>(i)]};
    UnetInput input{nullptr, 2, side, side, conditions.view(both)};
    input.resident = resident.get();
    unet_->predict(input, nullptr, nullptr);
    constexpr int64_t kFirst = ResidentTensors::kPrediction;
    add(Operation::Kind::guide, kGuided, {{kGuidance, kFirst}, {1, kFirst + 1}},
        Operation::Check::prediction);
    add(Operation::Kind::combine, kDenoised, {{1, latents}, {-sigma, kGuided}});
    add(Operation::Kind::combine, next, {{1, latents}, {schedule.sigma(i + 1) - sigma, kGuided}},
        Operation::Check::latents);
    std::swap(latents, next);
  }
  std::vector<float> out(static_cast<size_t>(elements));
  const ResidentChecks checks = resident->read(std::move(program), {latents}, out.data(), nullptr);
  finite = checks.prediction == 0 && checks.latents == 0;
  resident.reset();
  unet_->trim();
  return out;
}

void PictureModel::prepare(const Conditions& conditions, const std::vector<float>& timesteps) {
  const Conditioning two = conditions.view(nullptr);
  Conditioning all;
  if (!two.pooled) {
    all.timesteps = timesteps.data();
    return unet_->prepare(all, static_cast<int64_t>(timesteps.size()), nullptr);
  }
  std::vector<float> repeated, pooled, time_ids;
  for (const float timestep : timesteps) {
    repeated.insert(repeated.end(), 2, timestep);
    pooled.insert(pooled.end(), conditions.pooled.begin(), conditions.pooled.end());
    time_ids.insert(time_ids.end(), conditions.time_ids.begin(), conditions.time_ids.end());
  }
  all.timesteps = repeated.data();
  all.pooled = pooled.data(), all.pooled_width = two.pooled_width;
  all.time_ids = time_ids.data(), all.time_id_count = two.time_id_count;
  unet_->prepare(all, static_cast<int64_t>(repeated.size()), nullptr);
}

// As lib/options/tiling.ts has it by default, and lib/pipeline/memory-plan.ts for quantized models.
size_t PictureModel::decode_bytes_allowed(int64_t side) const {
  if (quantized_) return unet_->working_bytes(2, side, side, kContextLength);
  const int64_t pixels = config_.vae.factor() * side;
  const size_t share = backend_.device().description().memory_bytes / 6;
  return std::max(share, static_cast<size_t>(std::max<int64_t>(700'000'000, 300 * pixels * pixels)));
}

std::vector<uint8_t> PictureModel::decode(std::vector<float> latents, int64_t side) {
  for (float& value : latents) value /= config_.scaling;
  const int64_t pixels = config_.vae.factor() * side;
  std::vector<float> planes(static_cast<size_t>(3 * pixels * pixels));
  vae_->decode(latents.data(), 1, side, side, decode_bytes_allowed(side), planes.data(), nullptr);
  const size_t plane = planes.size() / 3;
  std::vector<uint8_t> result(planes.size());
  for (size_t i = 0; i < plane; ++i)
    for (size_t c = 0; c < 3; ++c) {
      const float level = 127.5f * planes[c * plane + i] + 128;
      result[3 * i + c] = static_cast<uint8_t>(std::min(std::max(0.0f, level), 255.0f));
    }
  vae_->trim();
  return result;
}

}  // namespace nd::cuda_bench
