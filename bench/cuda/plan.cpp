#include "plan.h"

#include <algorithm>
#include <limits>

#include "conditions.h"
#include "counting_driver.h"
#include "cuda/layers/product_plan.h"
#include "model_configs.h"
#include "random_weights.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

// Rates on an H200, 2026-11-28; an H100 has the same multiprocessors at the same clock.
constexpr double kBandwidth = 3.35e6;    // bytes in a microsecond: an H100's memory
constexpr double kSmallKernels = 1.0e6;  // the same, of norms and copies, whose tensors stay in the L2 cache
constexpr double kLeast = 2.5;           // microseconds of the smallest kernel
constexpr double kGap = 1.0;             // from a kernel's end to the next one's begin
constexpr double kLaunch = 2.5;          // of the host's time for each launch without a graph
constexpr double kTransfers = 40;        // latents up, a picture down, and what waits for them
constexpr double kStep = 25;  // guidance and the scheduler's step, and the host's next call: a guess

constexpr double kClock = 1830;  // clocks in a microsecond: those of 989 TFLOP/s
constexpr double kAttentionShare =
    0.45;  // of their bound that attention kernels reach, see attention_clocks()

/// Clocks of a multiprocessor that a block's step takes at least, by instructions counted in the code for
/// sm_90a: what is slowest of tensor cores, exponentials, issued instructions and shared memory
/// (docs/benchmarks-gpu.md). Kernels that an H200 has run reached 43 to 50 % of such bounds.
double attention_clocks(Kernel kernel, const AttentionArgs& a) {
  switch (kernel) {
    case Kernel::attention_64:
      return 819;
    case Kernel::attention_80:
      return 1024;
    case Kernel::attention_128:
      return 640;
    case Kernel::attention_160:
      return 800;
    case Kernel::attention_wide:  // with eight pieces of the head
      return 6040.0 * (4 + a.head_dim / 64.0) / 12;
    case Kernel::attention_hopper_40:
    case Kernel::attention_hopper_64:
      return 512;
    case Kernel::attention_hopper_80:
      return 640;
    case Kernel::attention_hopper_128:
      return 1024;
    case Kernel::attention_hopper_160:
      return 1280;
    default:
      return 529;
  }
}

int attention_step(Kernel kernel) {
  const int hopper = static_cast<int>(kernel) - static_cast<int>(Kernel::attention_hopper_40);
  return hopper >= 0 ? kHopperAttentionShapes[hopper].keys : attention_keys(kernel);
}

double attention_time(const Launch& launch, const AttentionArgs& a, int multiprocessors) {
  const int64_t blocks = int64_t{launch.grid_x} * launch.grid_y * launch.grid_z,
                steps = pieces_of(a.k_length, attention_step(launch.kernel));
  const double clocks =
      static_cast<double>(pieces_of(blocks, multiprocessors) * steps) * attention_clocks(launch.kernel, a);
  return std::max(2 * kLeast, clocks / (kClock * kAttentionShare));
}

double product_time(const ProductArgs& a, const Device& device) {
  const bool pointwise = a.kernel_w == 1 && a.stride == 1 && a.pad_y == 0 && a.pad_x == 0 && a.parities == 1;
  const double weights = 16.0 * a.o * a.weights_chunks * a.parities;
  return std::max(plan_product(a, pointwise, device).microseconds, weights / kBandwidth);
}

template <class Arguments>
const Arguments& as(const Launch& launch) {
  return *static_cast<const Arguments*>(launch.arguments);
}

/// Of the moments of an image.
double moment_bytes(const NormInputs& x) {
  return 12.0 * (x.first.pieces * x.first.c + x.second.pieces * x.second.c);
}

// Of an element that a normalization reads and writes, in halves or as int8.
constexpr double kHalves = 4, kInt8 = 3 + 4.0 / kInt8K;

/// Bytes that a kernel of norms or copies reads and writes.
double bytes_of(const Launch& launch) {
  switch (launch.kernel) {
    case Kernel::channel_moments:
      return 2.0 * launch.grid_z * as<MomentsArgs>(launch).pixels * as<MomentsArgs>(launch).c;
    case Kernel::affine:
    case Kernel::affine_int8:
      return (launch.kernel == Kernel::affine ? kHalves : kInt8) *
             static_cast<double>(as<AffineArgs>(launch).total);
    case Kernel::group_factors:
      return launch.grid_y * moment_bytes(as<GroupFactorsArgs>(launch).x);
    case Kernel::group_norm:
    case Kernel::group_norm_int8: {
      const GroupNormArgs& a = as<GroupNormArgs>(launch);
      const double each = launch.kernel == Kernel::group_norm ? kHalves : kInt8;
      return launch.grid_z * (each * a.pixels * a.c + launch.grid_y * moment_bytes(a.x));
    }
    case Kernel::layer_norm:
    case Kernel::layer_norm_int8:
      return (launch.kernel == Kernel::layer_norm ? kHalves : kInt8) * as<LayerNormArgs>(launch).rows *
             as<LayerNormArgs>(launch).c;
    case Kernel::concat: {
      const ConcatArgs& a = as<ConcatArgs>(launch);
      return 4.0 * static_cast<double>(a.rows) * (a.a_channels + a.b_channels);
    }
    case Kernel::add_rows:
      return 6.0 * static_cast<double>(as<AddArgs>(launch).count) * (as<AddArgs>(launch).vector ? 8 : 1);
    case Kernel::gather:
      return 4.0 * as<GatherArgs>(launch).count * as<GatherArgs>(launch).width;
    case Kernel::quantize_rows:
      return 8 * kInt8 * static_cast<double>(as<QuantizeArgs>(launch).total);
    case Kernel::decode_blocks: {
      const DecodeArgs& a = as<DecodeArgs>(launch);
      return 16.0 * static_cast<double>(a.total) +
             static_cast<double>(a.stored_rows) * a.stored_taps * a.in / a.block_elements * a.block_bytes;
    }
    default:
      return 0;
  }
}

/// Microseconds on the device.
double time_of(const Launch& launch, const Device& device) {
  const Kernel kernel = launch.kernel;
  // Part of the product's.
  if (kernel == Kernel::product_finish || kernel == Kernel::product_finish_moments) return 0;
  if (is_int8(kernel)) return plan_int8(as<Int8ProductArgs>(launch).product, device).microseconds;
  if (is_hopper_product(kernel)) return product_time(as<HopperProductArgs>(launch).product, device);
  if (kernel < Kernel::product_finish) return product_time(as<ProductArgs>(launch), device);
  if (kernel >= Kernel::attention_hopper_40)
    return attention_time(launch, as<HopperAttentionArgs>(launch).attention, device.multiprocessors());
  if (kernel >= Kernel::attention_40 && kernel <= Kernel::attention_wide)
    return attention_time(launch, as<AttentionArgs>(launch), device.multiprocessors());
  const double bytes = bytes_of(launch);
  return std::max(kLeast, bytes / (kernel == Kernel::decode_blocks ? kBandwidth : kSmallKernels));
}

struct Sum {
  int launches = 0;
  size_t working_bytes = 0;                      // of the device's memory
  double products = 0, attention = 0, rest = 0;  // microseconds

  void add(const Launch& launch, const Device& device) {
    const Kernel kernel = launch.kernel;
    const bool product =
        kernel <= Kernel::product_finish_moments || is_int8(kernel) || is_hopper_product(kernel);
    const bool attends = kernel >= Kernel::attention_hopper_40 ||
                         (kernel >= Kernel::attention_40 && kernel <= Kernel::attention_wide);
    (product ? products : attends ? attention : rest) += time_of(launch, device);
    ++launches;
  }
  /// `more`: microseconds beside the kernels.
  Row row(const std::string& name, double more) const {
    const double device = products + attention + rest + kGap * launches;
    const double graph = (device + more) * 1e-3, alone = (std::max(device, kLaunch * launches) + more) * 1e-3;
    return {name,
            {{"launches", launches},
             {"products_ms", products * 1e-3},
             {"attention_ms", attention * 1e-3},
             {"rest_ms", rest * 1e-3},
             {"graph_ms", graph},
             {"graph_it_s", 1e3 / graph},
             {"launched_ms", alone},
             {"launched_it_s", 1e3 / alone},
             {"working_mb", static_cast<double>(working_bytes) * 1e-6}}};
  }
};

class Plan {
 public:
  explicit Plan(Report& report) : report_(report), backend_(counting_driver(), 0, {}) {}

  void unet(const std::string& name, const UnetConfig& config, const std::vector<int64_t>& sides,
            TensorType type = TensorType::f16) {
    const RandomWeights weights(required_tensors<Unet>(config), type);
    Loader loader(weights.table(), backend_);
    Unet unet(config, loader);
    for (const int64_t side : sides)
      each_kind(name + ", guided, " + std::to_string(8 * side) + "x" + std::to_string(8 * side), [&] {
        const std::vector<float> latents(static_cast<size_t>(2 * 4 * side * side));
        const Conditions conditions(config, 8 * side);
        std::vector<float> out(latents.size());
        // Three steps: caches are filled in the first one, and graphs are recorded where steps repeat.
        for (const float timestep : {900.0f, 800.0f, 700.0f}) {
          const float timesteps[] = {timestep, timestep};
          const UnetInput input{latents.data(), 2, side, side, conditions.view(timesteps)};
          unet.predict(input, out.data(), nullptr);
        }
        const size_t working = unet.working_bytes(2, side, side, kContextLength);
        unet.trim();
        return working;
      });
  }

  void use_int8_products(Int8Products which) { backend_.device().use_int8_products(which); }

  void vae(const std::vector<int64_t>& sides) {
    const VaeConfig config = stable_diffusion().vae;
    const RandomWeights weights(required_tensors<Vae>(config));
    Loader loader(weights.table(), backend_);
    Vae vae(config, loader);
    for (const int64_t side : sides)
      each_kind("VAE decode, " + std::to_string(8 * side) + "x" + std::to_string(8 * side), [&] {
        const std::vector<float> latents(static_cast<size_t>(4 * side * side));
        std::vector<float> out(static_cast<size_t>(3 * 64 * side * side));
        const size_t any = std::numeric_limits<size_t>::max();
        vae.decode(latents.data(), 1, side, side, any, out.data(), nullptr);
        return vae.decode_bytes(side, side, any);
      });
  }

 private:
  /// call() returns its working memory. With the products of every GPU and with Hopper's. Of a model that
  /// records a graph, its kernels count.
  template <class Call>
  void each_kind(const std::string& name, const Call& call) {
    for (const WarpgroupProducts which : {WarpgroupProducts::none, WarpgroupProducts::faster}) {
      backend_.device().use_warpgroup_products(which);
      Sum all, graph;
      watch_launches([&](const Launch& launch) {
        all.add(launch, backend_.device());
        if (launch.captured) graph.add(launch, backend_.device());
      });
      all.working_bytes = graph.working_bytes = call();
      watch_launches({});
      const std::string full = name + (which == WarpgroupProducts::none ? ", mma" : ", wgmma");
      report_.add("modelled", graph.launches ? graph.row(full, kStep) : all.row(full, kTransfers));
    }
  }

  Report& report_;
  CudaBackend backend_;
};

}  // namespace

void model_steps(Report& report) {
  Plan plan(report);
  const UnetConfig sd15 = stable_diffusion().unet;
  plan.unet("SD 1.5", sd15, {64, 128});
  plan.unet("SD 1.5 q8_0", sd15, {64}, TensorType::q8_0);
  plan.use_int8_products(Int8Products::none);
  plan.unet("SD 1.5 q8_0, decoded", sd15, {64}, TensorType::q8_0);
  plan.vae({64, 128});
  plan.unet("SDXL", stable_diffusion_xl().unet, {128});
}

}  // namespace nd::cuda_bench
