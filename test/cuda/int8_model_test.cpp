// A UNet with q8_0 weights that multiplies int8 where the policy allows it, against the CPU's prediction in
// float32 from the same weights. It may be off by as much as the CPU's own int8.
#include <cmath>
#include <fstream>
#include <map>

#include "changed_driver.h"
#include "driver.h"
#include "fixture_models.h"
#include "emulator.h"
#include "golden.h"
#include "support.h"
#include "tables.h"
#include "unet/unet.h"
#include "weights/formats/traits.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

/// Of the prediction's norm. Halves round each activation, and small models amplify that.
constexpr double kHalves = 2e-3;
/// What int8 on the CPU is held to, see test/models/streaming.test.ts.
constexpr double kInt8 = 0.05;

/// Channels that fill blocks; the lowest level is one whose projections may be int8.
UnetConfig config_of_blocks() {
  UnetConfig config;
  config.block_channels = {64, 64, 128};
  config.layers_per_block = {1, 1, 1};
  config.down_transformer_depth = config.up_transformer_depth = {1, 0, 1};
  config.heads = {2, 2, 4};
  config.context_width = 64;
  config.norm_groups = 8;
  return config;
}

/// Random weights, as our own quantizing stores them: q8_0 where channels fill blocks, along the channels.
class QuantizedFile {
 public:
  explicit QuantizedFile(const UnetConfig& config) : path_(temporary_path("quantized-unet").u8string()) {
    std::ofstream file(path_, std::ios::binary);
    struct Place {
      RequiredTensor tensor;
      TensorType type;
      uint64_t offset, bytes;
    };
    std::vector<Place> places;
    uint64_t end = 0;
    for (const RequiredTensor& tensor : required_tensors<Unet>(config)) {
      int64_t count = 1;
      for (const int64_t length : tensor.shape) count *= length;
      const bool vector = tensor.shape.size() == 1, gain = tensor.name.find(".weight") != std::string::npos;
      const float scale =
          vector ? 0.2f : std::sqrt(3.0f * static_cast<float>(tensor.shape[0]) / static_cast<float>(count));
      std::vector<float> values = noise(tensor.name, count);
      for (float& value : values) value = value * scale + (vector && gain ? 1.0f : 0.0f);
      const TensorType type = !vector && tensor.shape[1] % 32 == 0 ? TensorType::q8_0 : TensorType::f32;
      std::vector<uint8_t> bytes(static_cast<size_t>(stored_bytes(type, count)));
      traits(type).encode(values.data(), count, bytes.data());
      file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      places.push_back({tensor, type, end, bytes.size()});
      end += bytes.size();
    }
    file.close();
    const int index = table_.add_file(path_);
    for (const Place& one : places)
      table_.add(one.tensor.name, one.type, one.tensor.shape,
                 one.type == TensorType::q8_0 && one.tensor.shape.size() == 4, index, one.offset, one.bytes);
  }
  ~QuantizedFile() { std::remove(path_.c_str()); }
  QuantizedFile(const QuantizedFile&) = delete;
  QuantizedFile& operator=(const QuantizedFile&) = delete;

  std::unique_ptr<Unet> load(Backend& backend, Precision precision) const {
    Loader loader(table_, backend, {precision});
    return std::make_unique<Unet>(config_of_blocks(), loader);
  }

 private:
  std::string path_;
  WeightTable table_;
};

std::vector<float> predict(Unet& model) {
  const int64_t n = 2, h = 8, w = 10, length = 9;
  const std::vector<float> latents = noise("latents", n * 4 * h * w),
                           context = noise("context", n * length * 64);
  const float timesteps[] = {981.0f, 17.5f};
  std::vector<float> out(latents.size());
  model.predict({latents.data(), n, h, w, {timesteps, context.data(), length}}, out.data(), nullptr);
  return out;
}

/// These int8 products for as long as this lives.
class WithInt8 {
 public:
  explicit WithInt8(Int8Products which) { backend().device().use_int8_products(which); }
  ~WithInt8() { backend().device().use_int8_products(before_); }
  WithInt8(const WithInt8&) = delete;
  WithInt8& operator=(const WithInt8&) = delete;

 private:
  Int8Products before_ = backend().device().int8_products();
};

/// ‖got − truth‖ / ‖truth‖
double relative_error(const std::vector<float>& got, const std::vector<float>& truth) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - truth[i], 2);
    norm += std::pow(static_cast<double>(truth[i]), 2);
  }
  return std::sqrt(difference / norm);
}

struct Reference {
  QuantizedFile file{config_of_blocks()};
  std::vector<float> truth;
  double cpu = 0;  // the error of the CPU's int8, by the scalar kernels, which are the same everywhere

  Reference() {
    truth = predict(*file.load(backend_of(), Precision::f32));
    cpu = relative_error(predict(*file.load(backend_of(&reference()), Precision::automatic)), truth);
  }
};

/// Made when a case needs it.
const Reference& made() {
  static const Reference reference;
  return reference;
}

std::string difference(Precision precision, double most) {
  const Reference& reference = made();
  const std::unique_ptr<Unet> model = reference.file.load(backend(), precision);
  const std::vector<float> got = predict(*model);
  const double error = relative_error(got, reference.truth);
  if (!(error <= most)) return "off by " + text(error) + " of its norm, not " + text(most);
  model->trim();
  const std::vector<float> again = predict(*model);
  return std::memcmp(got.data(), again.data(), got.size() * sizeof(float)) == 0 ? "" : "again it differs";
}

std::map<std::string, int>& launches_by_name() {
  static std::map<std::string, int> counts;
  return counts;
}
double count_launch(const char* kernel, int64_t, const void*) {
  ++launches_by_name()[kernel];
  return 1;
}

/// Activations of each int8 product are quantized once, and by the normalization where there is one.
std::string quantizing_launches() {
  if (on_hardware()) return "";
  const WithInt8 all(Int8Products::all);
  const std::unique_ptr<Unet> model = made().file.load(backend(), Precision::automatic);
  launches_by_name().clear();
  emu::driver_options.launch_time = count_launch;
  predict(*model);
  emu::driver_options.launch_time = nullptr;
  std::map<std::string, int>& counts = launches_by_name();
  const int products =
      counts["product_int8_small"] + counts["product_int8_narrow"] + counts["product_int8_large"];
  const int layer_norms = counts["layer_norm_int8"],
            group_norms = counts["group_norm_int8"] + counts["affine_int8"], apart = counts["quantize_rows"];
  std::string found = std::to_string(products) + " products, " + std::to_string(layer_norms) +
                      " layer norms, " + std::to_string(group_norms) + " group norms, " +
                      std::to_string(apart) + " apart";
  if (layer_norms + group_norms + apart != products) return found;
  // Of seven transformers, self-attention, queries and feed-forward networks; those of three have queries
  // that are too small for blocks. The residual blocks' convolutions, and the transformers' projections.
  return layer_norms == 18 && counts["layer_norm"] == 3 && group_norms >= 20 ? "" : found;
}

/// Hopper's products read constant weights before they wait for the kernel before, which decodes here.
std::string overlapping() {
  ChangedDriver driver;
  driver->capability = 90;
  driver->keeps_earlier = true;
  CudaBackend own(emu::driver(), 0, image());
  Device& device = own.device();
  device.use_int8_products(Int8Products::none);
  device.use_warpgroup_products(WarpgroupProducts::all);
  const std::unique_ptr<Unet> model = made().file.load(own, Precision::automatic);
  const std::vector<float> plain = predict(*model);
  device.use_overlapping_launches(true);
  return same(predict(*model), plain) ? faults() : "other bits";
}

const Register suite([] {
  if (small()) return;
  const std::vector<uint32_t> seeds = model_orders();
  nd::test::test("cuda/int8 unet, the CPU's error", [] {
    return made().cpu > kHalves && made().cpu < kInt8 ? std::string() : text(made().cpu);
  });
  in_orders(seeds, "cuda/int8 unet, all products", [] {
    const WithInt8 all(Int8Products::all);
    std::string why = difference(Precision::automatic, made().cpu);
    if (!why.empty()) return why;
    // The comparison is one of int8: in halves it would be closer.
    const std::vector<float> got = predict(*made().file.load(backend(), Precision::automatic));
    return relative_error(got, made().truth) > kHalves ? std::string() : "no product was one of int8";
  });
  in_orders({0}, "cuda/int8 unet, what quantizes", quantizing_launches);
  if (!on_hardware() && !emu::checking)
    in_orders({2}, "cuda/int8 unet, decoded, kernels overlap", overlapping);
  in_orders(seeds, "cuda/int8 unet, those that are faster", [] {
    const WithInt8 faster(Int8Products::faster);
    return difference(Precision::automatic, made().cpu);
  });
  in_orders(seeds, "cuda/int8 unet, none", [] {
    const WithInt8 none(Int8Products::none);
    return difference(Precision::automatic, kHalves);
  });
  // Whoever asks for float32 gets halves, as with any other model.
  in_orders(seeds, "cuda/int8 unet in float32", [] {
    const WithInt8 all(Int8Products::all);
    return difference(Precision::f32, kHalves);
  });
});

}  // namespace
}  // namespace nd::cuda_test
