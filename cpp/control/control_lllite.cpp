#include "control/control_lllite.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <optional>

#include "core/require.h"
#include "nn/profile.h"

namespace nd {
namespace {

constexpr const char* kNames[kProjections] = {"queries", "keys", "values", "cross_queries"};

constexpr int64_t kMaxFactor = 1 << 16;  // of the sides of pictures; keeps products within 64 bits

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

int64_t ControlLlliteBlock::factor() const {
  return std::accumulate(kernels.begin(), kernels.end(), int64_t{1}, std::multiplies<>());
}

void ControlLlliteConfig::check() const {
  require(image_channels >= 1 && condition_width >= 2 && width >= 1 && !blocks.empty(),
          "Expected a ControlLLLite with widths of at least 1 and at least one block");
  const std::string too_coarse =
      "Expected a ControlLLLite of pictures whose sides are multiples of at most " +
      std::to_string(kMaxFactor);
  int64_t factor = 1;
  for (const ControlLlliteBlock& one : blocks) {
    require(one.block >= 0 && one.channels >= 1 && !one.kernels.empty() && one.kernels.size() <= 8 &&
                one.projections.size() == kProjections,
            "Expected a ControlLLLite's block with channels, projections and kernels");
    for (const int64_t kernel : one.kernels)
      require(kernel >= 1 && kernel <= 64, "Expected kernels of a ControlLLLite from 1 to 64");
    require(one.factor() <= kMaxFactor, too_coarse);
    factor = std::lcm(factor, one.factor());
    require(factor <= kMaxFactor, too_coarse);
  }
}

ControlLllite::ControlLllite(const ControlLlliteConfig& config, Loader& loader)
    : config_((config.check(), config)), backend_(loader.backend()), id_(next_id()), workspace_(backend_) {
  for (const ControlLlliteBlock& one : config.blocks) {
    const auto block = static_cast<size_t>(one.block);
    if (places_.size() <= block) places_.resize(block + 1);
    places_[block].assign(kProjections, -1);
    for (int p = 0; p < kProjections; ++p) {
      if (one.projections[static_cast<size_t>(p)] == 0) continue;
      places_[block][static_cast<size_t>(p)] = static_cast<int64_t>(networks_.size());
      add_network(loader, one, static_cast<Projection>(p));
    }
  }
}

void ControlLllite::add_network(Loader& loader, const ControlLlliteBlock& block, Projection projection) {
  const std::string prefix = std::to_string(block.block) + "." + kNames[static_cast<int>(projection)] + ".";
  Network network;
  network.factor = block.factor();
  network.channels = block.channels;
  {
    const OncePerImage once(loader);
    int64_t in = config_.image_channels;
    for (size_t i = 0; i < block.kernels.size(); ++i) {
      Conv2dOptions options;
      options.kernel = options.stride = static_cast<int>(block.kernels[i]);
      options.pad_before = options.pad_after = 0;
      options.role = Role::input_output;
      const bool last = i + 1 == block.kernels.size();
      const int64_t out = last ? config_.condition_width : config_.condition_width / 2;
      network.conditioning.push_back(
          loader.conv2d(prefix + "conditioning1." + std::to_string(2 * i), in, out, options));
      in = out;
    }
  }
  network.down = loader.linear(prefix + "down.0", block.channels, config_.width);
  network.mid = loader.linear(prefix + "mid.0", config_.condition_width + config_.width, config_.width);
  network.up = loader.linear(prefix + "up.0", config_.width, block.channels);
  networks_.push_back(std::move(network));
}

int64_t ControlLllite::factor() const {
  int64_t factor = 1;
  for (const Network& network : networks_) factor = std::lcm(factor, network.factor);
  return factor;
}

void ControlLllite::check_sides(int64_t n, int64_t h, int64_t w) const {
  const int64_t side = factor();
  require(n >= 1 && h >= 1 && w >= 1 && h % side == 0 && w % side == 0,
          "Expected pictures of which the sides are multiples of " + std::to_string(side));
}

void ControlLllite::expect(int64_t n, int64_t h, int64_t w, KeptTensors& to) const {
  for (size_t i = 0; i < networks_.size(); ++i)
    to.expect(i, n, h / networks_[i].factor, w / networks_[i].factor, config_.condition_width);
}

Tensor ControlLllite::embed(ForwardContext& ctx, const Network& network, const Tensor& picture) const {
  Tensor x;
  for (const auto& layer : network.conditioning) {
    Epilogue relu;
    if (&layer != &network.conditioning.back()) relu.activation = Activation::relu;
    x = layer->forward(ctx, x ? x : picture, nullptr, relu);
  }
  return x;
}

void ControlLllite::embed(const float* pictures, int64_t n, int64_t h, int64_t w, KeptTensors& to,
                          const CancelToken* cancel) {
  check_sides(n, h, w);
  const std::lock_guard<std::mutex> lock(to.mutex);
  expect(n, h, w, to);
  for (int64_t i = 0; i < n; ++i)
    workspace_.run(cancel, [&](ForwardContext& ctx) {
      const Tensor picture = backend_.from_planar(ctx, pictures + i * config_.image_channels * h * w, 1,
                                                  config_.image_channels, h, w);
      if (!ctx.measuring()) to.allocate(ctx);
      for (size_t k = 0; k < networks_.size(); ++k) {
        const Tensor embedded = embed(ctx, networks_[k], picture);
        if (ctx.measuring()) continue;
        backend_.copy_rows(ctx, embedded, 0, to.view(k), i * embedded.pixels(), embedded.pixels());
      }
    });
  workspace_.trim();
}

bool ControlLllite::changes(size_t block, Projection projection) const {
  return block < places_.size() && !places_[block].empty() &&
         places_[block][static_cast<size_t>(projection)] >= 0;
}

Tensor ControlLllite::forward(ForwardContext& ctx, size_t block, Projection projection, const Tensor& x,
                              const KeptTensors* kept) const {
  const auto place = static_cast<size_t>(places_[block][static_cast<size_t>(projection)]);
  const Network& network = networks_[place];
  require(x.c == network.channels, "Expected a ControlLLLite that was made for this UNet");
  Tensor both;
  {
    const Tensor condition(ctx, x.n, x.h, x.w, config_.condition_width);
    if (!ctx.measuring()) {
      const Tensor pictures = kept->view(place);
      require(pictures.h == x.h && pictures.w == x.w && pictures.c == config_.condition_width,
              "Expected a picture that was embedded for latents of this size");
      for (int64_t i = 0; i < x.n; ++i)
        backend_.copy_rows(ctx, pictures, i % pictures.n * x.pixels(), condition, i * x.pixels(), x.pixels());
    }
    Epilogue relu;
    relu.activation = Activation::relu;
    const Tensor down = network.down->forward(ctx, x, relu);
    both = backend_.concat(ctx, condition, down);
  }
  Epilogue relu;
  relu.activation = Activation::relu;
  const Tensor hidden = network.mid->forward(ctx, both, relu);
  both.release();
  return network.up->forward(ctx, hidden);
}

void ControlLllite::check(const KeptTensors& kept, const Memory& memory) const {
  require(&backend_.memory() == &memory && kept.in(memory) && kept.count() == networks_.size(),
          "Expected a picture that this ControlLLLite embedded");
}

ControlLlliteMemory ControlLllite::memory(int64_t n, int64_t h, int64_t w, int64_t rows) const {
  check_sides(n, h, w);
  const Profile::Counting uncounted(nullptr);  // not the work of each prediction
  ControlLlliteMemory bytes;
  KeptTensors kept;
  expect(n, h, w, kept);
  bytes.kept = kept.bytes(backend_.element_bytes());
  bytes.embedding = Workspace::measure(backend_, [&](ForwardContext& ctx) {
    const Tensor picture = backend_.from_planar(ctx, nullptr, 1, config_.image_channels, h, w);
    for (const Network& network : networks_) embed(ctx, network, picture);
  });
  for (size_t block = 0; block < places_.size(); ++block)
    for (int p = 0; p < kProjections; ++p) {
      const auto projection = static_cast<Projection>(p);
      if (!changes(block, projection)) continue;
      const Network& network = networks_[static_cast<size_t>(places_[block][static_cast<size_t>(p)])];
      const int64_t rows_h = h / network.factor, rows_w = w / network.factor;
      const size_t more = Workspace::measure(backend_, [&](ForwardContext& ctx) {
        // As in self-attention: its inputs side by side, and three times the projections instead of once.
        const Tensor inputs(ctx, 3 * rows, rows_h, rows_w, network.channels);
        const Tensor projected(ctx, 2 * rows, rows_h, rows_w, 3 * network.channels);
        const Tensor x = Tensor(ctx, rows, rows_h, rows_w, network.channels);
        const std::vector<ChangedInputs> all = {{this, &kept, 1, 0, rows}};
        InputChanges{&all, block}.apply(ctx, projection, x);
      });
      bytes.forward = std::max(bytes.forward, more);
    }
  return bytes;
}

}  // namespace nd
