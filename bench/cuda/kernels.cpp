#include "kernels.h"

#include <cmath>

#include "cuda/layers/attention_hopper.h"
#include "cuda/layers/product_plan.h"
#include "weights/formats/blocks.h"
#include "weights/formats/half.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

/// Device memory with small random fp16 values (or, read as floats, some numbers near zero).
Buffer random_buffer(const Device& device, int64_t count) {
  std::vector<uint16_t> values(static_cast<size_t>(count));
  uint32_t state = 1;
  for (uint16_t& value : values) {
    state = state * 1664525u + 1013904223u;
    value = float_to_half((static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.1f);
  }
  Buffer buffer(device, values.size() * 2);
  buffer.fill(values.data(), values.size() * 2);
  return buffer;
}

struct Product {
  const char* kind;
  int64_t n, h, c, o;
  int64_t kernel = 1, stride = 1;
  bool upsample = false, geglu = false, residual = false;
};

class Bench {
 public:
  Bench(CudaBackend& backend, const Options& options, Report& report)
      : backend_(backend), options_(options), report_(report), peak_(peak_of(backend.device().name())) {}

  void product(const Product& given) {
    const Prepared p = prepare(given);
    const ProductArgs& a = p.args;
    const bool pointwise = p.pointwise;
    const Device& device = backend_.device();
    const int64_t planes = a.parities;
    const ProductPlan chosen = plan_product(a, pointwise, device);
    const double time = run(a, chosen);
    Row row{p.name, rates(time, p.flop)};
    // What every other choice would have taken: plan_product is to choose the best.
    double best = time;
    int best_tile = -1;
    int32_t best_splits = chosen.splits;
    for (int tile = 0; tile < kTiles; ++tile)
      for (const int32_t splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
        const ProductPlan plan = plan_tile(a, pointwise, tile, splits);
        if (plan.splits != splits || (splits > 1 && planes > 1)) continue;
        const double other = run(a, plan);
        // Of kernels that plan_tile() puts in a tile's place, times are not the tile's.
        if (plan.kernel != Kernel::product_unaligned && (pointwise || tile > 0))
          add_run("halves", tile, p.name, a, plan, other);
        row.numbers.emplace_back("t" + std::to_string(tile) + "s" + std::to_string(splits), other);
        if (other < best) best = other, best_tile = tile, best_splits = splits;
      }
    if (device.warpgroup_products() != WarpgroupProducts::none)
      for (int tile = 0; tile < kHopperTileCount; ++tile)
        for (const int32_t splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
          const ProductPlan plan = plan_hopper_tile(a, pointwise, tile, splits);
          if (!suits_hopper(a) || plan.splits != splits || (splits > 1 && planes > 1)) continue;
          const double other = run(a, plan);
          add_run("wgmma", tile, p.name, a, plan, other);
          row.numbers.emplace_back("h" + std::to_string(tile) + "s" + std::to_string(splits), other);
          if (other < best) best = other, best_tile = kTiles + tile, best_splits = splits;
        }
    row.numbers.emplace_back("kernel", static_cast<double>(static_cast<int>(chosen.kernel)));
    row.numbers.emplace_back("splits", chosen.splits);
    row.numbers.emplace_back("best_us", best);
    row.numbers.emplace_back("best_tile", best_tile);
    row.numbers.emplace_back("best_splits", best_splits);
    report_.add("products", row);
  }

  /// The same with weights in blocks of 32: what decodes them, and both together.
  void quantized(const Product& given, TensorType type) {
    const Prepared p = prepare(given);
    const Device& device = backend_.device();
    DecodeArgs d{};
    d.out = const_cast<half*>(p.args.weights);
    d.type = type == TensorType::q4_0 ? BlockType::q4_0 : BlockType::q8_0;
    d.block_elements = narrow(kBlock);
    d.block_bytes = narrow(stored_bytes(type, kBlock));
    d.rows = d.stored_rows = p.args.o, d.chunks = p.args.weights_chunks, d.in = p.args.c;
    d.total = int64_t{p.args.parities} * d.rows * d.chunks;
    d.folded = p.args.parities > 1;
    d.stored_taps = given.kernel * given.kernel == 9 || d.folded ? 9 : 1;
    d.geglu = given.geglu;
    d.channels_last = 1;
    const int64_t elements = int64_t{d.stored_rows} * d.stored_taps * d.in;
    if (elements % kBlock) return;
    const size_t bytes = static_cast<size_t>(stored_bytes(type, elements));
    const Buffer blocks = random_buffer(device, static_cast<int64_t>(bytes) / 2);
    d.blocks = pointer<unsigned char>(blocks.address());
    const double decoding = device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
      device.launch(stream, Kernel::decode_blocks, {pieces_of(d.total, kMoveThreads)}, d);
    });
    const double time = decoding + run(p.args, plan_product(p.args, p.pointwise, device));
    Row row{std::string(name_of(type)) + " " + p.name, rates(time, p.flop)};
    row.numbers.emplace_back("decode_us", decoding);
    if (type == TensorType::q8_0 && suits_int8(p.args)) add_int8(p.args, blocks, row);
    row.numbers.emplace_back(
        "decode_gbs", (static_cast<double>(bytes) + 16.0 * static_cast<double>(d.total)) / decoding * 1e-3);
    report_.add("quantized products", row);
  }

  /// What the model of a tile's time has, see cost_of_blocks().
  void tile_times() {
    const auto add = [&](const std::string& family, int tile, const TileTime& time) {
      report_.add("tile times", {family + " " + std::to_string(tile),
                                 {{"resident", time.resident},
                                  {"latency", time.latency},
                                  {"step", time.step},
                                  {"block", time.block}}});
    };
    for (int tile = 0; tile < kTiles; ++tile) add("halves", tile, kBuiltInTimes.halves[tile]);
    for (int tile = 0; tile < kInt8TileCount; ++tile) add("int8", tile, kBuiltInTimes.int8[tile]);
    for (int tile = 0; tile < kHopperTileCount; ++tile) add("wgmma", tile, HopperTimes().tiles[tile]);
  }

  void attention(int64_t n, int64_t heads, int64_t dim, int64_t queries, int64_t keys, Kernel kernel) {
    queries = std::max<int64_t>(1, queries / options_.shrink / options_.shrink);
    if (keys != 77) keys = queries;
    const int64_t inner = heads * dim;
    const Device& device = backend_.device();
    const Buffer q = random_buffer(device, n * queries * inner),
                 kv = random_buffer(device, n * keys * 2 * inner),
                 out = random_buffer(device, n * queries * inner);
    AttentionArgs a{};
    a.q = pointer<half>(q.address()), a.out = pointer<half>(out.address());
    for (int64_t i = 0; i < n; ++i) a.keys[i] = key_of(kv, i * keys * 2 * inner);
    a.q_image = a.out_image = queries * inner;
    a.ldq = a.ldo = narrow(inner), a.ldk = narrow(2 * inner), a.v_offset = narrow(inner);
    a.q_length = narrow(queries), a.k_length = narrow(keys), a.head_dim = narrow(dim);
    a.slices = kernel == Kernel::attention_wide ? narrow(pieces_of(dim, kWideSlice)) : 1;
    a.scale = 1.44269504f / std::sqrt(static_cast<float>(dim));
    a.aligned = 1;
    const Grid grid{pieces_of(queries, attention_queries(kernel)), heads, n * a.slices};
    const double time = device_microseconds(
        backend_, options_.repetitions, [&](StreamHandle stream) { device.launch(stream, kernel, grid, a); });
    const double flop = 4.0 * static_cast<double>(n * queries * keys * inner);
    report_.add("attention",
                {std::string(kKernels[static_cast<int>(kernel)].name) + " of " + std::to_string(n) + "x" +
                     std::to_string(heads) + " heads of " + std::to_string(dim) + ", " +
                     std::to_string(queries) + " to " + std::to_string(keys),
                 rates(time, flop)});
  }

  void hopper_attention(int64_t n, int64_t heads, int64_t dim, int64_t length) {
    const Device& device = backend_.device();
    if (device.warpgroup_products() == WarpgroupProducts::none) return;
    length = std::max<int64_t>(1, length / options_.shrink / options_.shrink);
    const SelfAttentionShape shape{n, length, heads, dim};
    const Buffer qkv = random_buffer(device, n * length * 3 * heads * dim),
                 out = random_buffer(device, n * length * heads * dim);
    const Kernel kernel = hopper_attention_kernel(dim);
    const double time = device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
      device.launch(stream, kernel, hopper_attention_grid(shape),
                    hopper_attention_arguments(device.driver(), pointer<half>(qkv.address()),
                                               pointer<half>(out.address()), shape));
    });
    const double flop = 4.0 * static_cast<double>(n * length * length * heads * dim);
    report_.add("attention", {std::string(kKernels[static_cast<int>(kernel)].name) + " of " +
                                  std::to_string(n) + "x" + std::to_string(heads) + " heads of " +
                                  std::to_string(dim) + ", " + std::to_string(length),
                              rates(time, flop)});
  }

  void norms(int64_t n, int64_t h, int64_t c) {
    h = std::max<int64_t>(2, h / options_.shrink);
    const Device& device = backend_.device();
    const int64_t pixels = h * h, pieces = pieces_of(pixels, kMomentRows), size = n * pixels * c;
    const Buffer x = random_buffer(device, size), y = random_buffer(device, size),
                 moments = random_buffer(device, n * pieces * 3 * c * 2),
                 factors = random_buffer(device, n * 2 * c * 2), gamma = random_buffer(device, 2 * c);
    const float* g = pointer<float>(gamma.address());
    half *from = pointer<half>(x.address()), *to = pointer<half>(y.address());
    const MomentsArgs m{from, pointer<float>(moments.address()), narrow(pixels), narrow(c), narrow(pieces)};
    const NormInputs inputs{{from, m.moments, narrow(c), narrow(pieces)}, {}};
    const GroupFactorsArgs f{inputs, g, g, pointer<float>(factors.address()), narrow(c), 32, 1e-5f};
    const AffineArgs a{inputs, f.factors, to, pixels * c, size, narrow(c), 1, {}};
    const double group = device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
      device.launch(stream, Kernel::channel_moments, {pieces, pieces_of(c, kMomentChannels), n}, m);
      device.launch(stream, Kernel::group_factors, {32, n}, f);
      device.launch(stream, Kernel::affine, {pieces_of(size, int64_t{8} * kMoveThreads)}, a);
    });
    const std::string shape =
        std::to_string(n) + "x" + std::to_string(h) + "x" + std::to_string(h) + "x" + std::to_string(c);
    report_.add("norms",
                {"group norm, SiLU " + shape, bandwidth(group, 3.0 * 2 * static_cast<double>(size))});
    const LayerNormArgs l{from, g, g, to, narrow(n * pixels), narrow(c), 1e-5f, {}};
    const double layer = device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
      device.launch(stream, Kernel::layer_norm, {pieces_of(n * pixels, kMoveThreads / 32)}, l);
    });
    report_.add("norms", {"layer norm " + shape, bandwidth(layer, 2.0 * 2 * static_cast<double>(size))});
  }

 private:
  /// All that tools/bench/fit-tiles.mjs needs to know of a run.
  void add_run(const std::string& family, int tile, const std::string& shape, const ProductArgs& args,
               const ProductPlan& plan, double time) {
    const int64_t blocks = plan.grid.x * plan.grid.y * plan.grid.z,
                  partial = plan.splits > 1 ? int64_t{plan.splits} * args.m * args.o : 0;
    report_.add("tile runs", {family + " " + std::to_string(tile) + ": " + shape,
                              {{"tile", tile},
                               {"blocks", static_cast<double>(blocks)},
                               {"steps", plan.split_steps},
                               {"splits", plan.splits},
                               {"partial", static_cast<double>(partial)},
                               {"us", time}}});
  }

  /// The same by int8: what makes it of x, every tile and split of the product, and the best of these. Of the
  /// weights any numbers will do.
  void add_int8(const ProductArgs& args, const Buffer& weights, Row& row) {
    const Device& device = backend_.device();
    const int64_t size = int64_t{args.m} / args.grid_pixels * args.h * args.w * args.c,
                  elements = int64_t{args.o} * args.weights_chunks * 8;
    const Buffer codes(device, static_cast<size_t>(size)),
        scales(device, static_cast<size_t>(size / kInt8K * 4));
    const QuantizeArgs q{
        args.x, {pointer<signed char>(codes.address()), pointer<float>(scales.address())}, size / 8};
    row.numbers.emplace_back(
        "quantize_us", device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
          device.launch(stream, Kernel::quantize_rows, {pieces_of(q.total, kMoveThreads)}, q);
        }));
    Int8ProductArgs a{args, q.y.codes, q.y.scales, pointer<signed char>(weights.address()),
                      pointer<uint32_t>(weights.address() + static_cast<size_t>(elements))};
    double best = 0;
    for (int tile = 0; tile < kInt8TileCount; ++tile)
      for (const int32_t splits : {1, 2, 3, 4, 6, 8, 12, 16}) {
        const ProductPlan plan = plan_int8_tile(args, tile, splits);
        if (plan.splits != splits) continue;
        const double time = run(args, plan, &a);
        add_run("int8", tile, row.name, args, plan, time);
        row.numbers.emplace_back("i" + std::to_string(tile) + "s" + std::to_string(splits), time);
        if (best == 0 || time < best) best = time;
      }
    row.numbers.emplace_back("int8_best_us", best);
    row.numbers.emplace_back("int8_us", run(args, plan_int8(args, device), &a));
  }

  /// A product of random numbers.
  struct Prepared {
    Buffer x, weights, bias, y;
    ProductArgs args;
    bool pointwise;
    double flop;
    std::string name;
  };
  Prepared prepare(const Product& given) {
    Product s = given;
    s.c = std::max<int64_t>(8, s.c / options_.shrink), s.o = std::max<int64_t>(16, s.o / options_.shrink);
    s.h = std::max<int64_t>(2, s.h / options_.shrink);
    const int64_t out = s.upsample ? 2 * s.h : (s.h + s.stride - 1) / s.stride, grid = s.upsample ? s.h : out;
    const int64_t taps = s.upsample ? 4 : s.kernel * s.kernel, planes = s.upsample ? 4 : 1;
    const int64_t columns = s.geglu ? s.o / 2 : s.o;
    const Device& device = backend_.device();
    Prepared p{random_buffer(device, s.n * s.h * s.h * s.c),
               random_buffer(device, planes * s.o * taps * s.c),
               random_buffer(device, 2 * s.o),
               random_buffer(device, s.n * out * out * columns),
               {},
               false,
               0,
               {}};
    ProductArgs& a = p.args;
    a.x = pointer<half>(p.x.address()), a.weights = pointer<half>(p.weights.address());
    a.constant_weights = true;
    a.bias = pointer<float>(p.bias.address()), a.y = pointer<half>(p.y.address());
    a.residual = s.residual ? a.y : nullptr;
    a.m = narrow(s.n * grid * grid), a.o = narrow(s.o), a.c = narrow(s.c);
    a.chunks = a.weights_chunks = narrow(taps * s.c / 8);
    a.grid_w = narrow(grid), a.grid_pixels = narrow(grid * grid);
    a.h = a.w = narrow(s.h), a.stride = narrow(s.stride);
    a.pad_y = a.pad_x = s.kernel == 3 || s.upsample;
    a.kernel_w = s.upsample ? 2 : narrow(s.kernel);
    a.out_h = a.out_w = narrow(out), a.out_step = s.upsample ? 2 : 1;
    a.parities = narrow(planes), a.y_columns = narrow(columns), a.alpha = 1;
    a.activation = s.geglu ? ProductActivation::geglu : ProductActivation::none;
    p.pointwise = s.kernel == 1 && !s.upsample;
    p.flop = 2.0 * static_cast<double>(planes) * a.m * s.o * static_cast<double>(taps * s.c);
    p.name = std::string(s.kind) + " " + std::to_string(s.n) + "x" + std::to_string(s.h) + "x" +
             std::to_string(s.h) + " " + std::to_string(s.c) + " to " + std::to_string(s.o);
    return p;
  }

  static const half* key_of(const Buffer& kv, int64_t element) {
    return pointer<half>(kv.address() + static_cast<size_t>(element) * 2);
  }

  /// int8: what it is launched with, besides a.
  double run(ProductArgs a, const ProductPlan& plan, Int8ProductArgs* int8 = nullptr) {
    const Device& device = backend_.device();
    a.splits = plan.splits, a.split_steps = plan.split_steps, a.span = plan.span;
    const int64_t columns = (a.o + 7) / 8 * 8;
    const Buffer partial(device, static_cast<size_t>(plan.splits > 1 ? plan.splits * a.m * columns * 4 : 16));
    a.partial = pointer<float>(partial.address());
    if (int8) int8->product = a;
    const int64_t pieces = a.m * columns / (a.activation == ProductActivation::geglu ? 16 : 8);
    return device_microseconds(backend_, options_.repetitions, [&](StreamHandle stream) {
      if (int8)
        device.launch(stream, plan.kernel, plan.grid, *int8);
      else if (is_hopper(plan.kernel))
        device.launch(stream, plan.kernel, plan.grid, hopper_arguments(device.driver(), a, plan));
      else
        device.launch(stream, plan.kernel, plan.grid, a);
      if (plan.splits > 1)
        device.launch(stream, Kernel::product_finish, {pieces_of(pieces, kFinishThreads)}, a);
    });
  }

  std::vector<std::pair<std::string, double>> rates(double time, double flop) const {
    const double tflops = flop / time * 1e-6;
    return {{"us", time}, {"tflops", tflops}, {"share", peak_.tflops ? tflops / peak_.tflops : 0}};
  }
  std::vector<std::pair<std::string, double>> bandwidth(double time, double bytes) const {
    const double gigabytes = bytes / time * 1e-3;
    return {{"us", time}, {"gbs", gigabytes}, {"share", peak_.gigabytes ? gigabytes / peak_.gigabytes : 0}};
  }

  CudaBackend& backend_;
  const Options& options_;
  Report& report_;
  const Peak peak_;
};

}  // namespace

void time_kernels(CudaBackend& backend, const Options& options, Report& report) {
  Bench bench(backend, options, report);
  const Product products[] = {
      {"conv", 2, 64, 320, 320, 3},
      {"conv", 2, 64, 640, 320, 3},
      {"conv", 2, 64, 960, 320, 3},
      {"conv", 2, 32, 640, 640, 3},
      {"conv", 2, 32, 1280, 640, 3},
      {"conv", 2, 32, 1920, 640, 3},
      {"conv", 2, 16, 1280, 1280, 3},
      {"conv", 2, 16, 2560, 1280, 3},
      {"conv", 2, 8, 1280, 1280, 3},
      {"conv", 2, 8, 2560, 1280, 3},
      {"conv down", 2, 64, 320, 320, 3, 2},
      {"conv up", 2, 8, 1280, 1280, 3, 1, true},
      {"conv up", 2, 16, 1280, 1280, 3, 1, true},
      {"conv up", 2, 32, 640, 640, 3, 1, true},
      {"linear", 2, 64, 320, 320},
      {"qkv", 2, 64, 320, 960},
      {"geglu", 2, 64, 320, 2560, 1, 1, false, true},
      {"linear", 2, 64, 1280, 320, 1, 1, false, false, true},
      {"linear", 2, 32, 640, 640},
      {"qkv", 2, 32, 640, 1920},
      {"geglu", 2, 32, 640, 5120, 1, 1, false, true},
      {"linear", 2, 32, 2560, 640, 1, 1, false, false, true},
      {"linear", 2, 16, 1280, 1280},
      {"qkv", 2, 16, 1280, 3840},
      {"geglu", 2, 16, 1280, 10240, 1, 1, false, true},
      {"linear", 2, 16, 5120, 1280, 1, 1, false, false, true},
      {"vae conv", 1, 256, 256, 256, 3},
      {"vae conv", 1, 512, 128, 128, 3},
  };
  bench.tile_times();
  for (const Product& product : products) bench.product(product);
  for (const TensorType type : {TensorType::q8_0, TensorType::q4_0})
    for (const Product& product : products)
      if (product.n == 2) bench.quantized(product, type);  // the UNet's
  bench.attention(2, 8, 40, 4096, 4096, Kernel::attention_40);
  bench.attention(2, 8, 40, 16384, 16384, Kernel::attention_40);
  bench.attention(2, 8, 80, 1024, 1024, Kernel::attention_80);
  bench.attention(2, 8, 160, 256, 256, Kernel::attention_160);
  bench.attention(2, 8, 40, 4096, 77, Kernel::attention_40);
  bench.attention(2, 8, 80, 1024, 77, Kernel::attention_80);
  bench.attention(2, 8, 160, 256, 77, Kernel::attention_160);
  bench.attention(1, 1, 512, 4096, 4096, Kernel::attention_wide);
  bench.attention(1, 10, 64, 4096, 4096, Kernel::attention_64);
  bench.hopper_attention(2, 8, 40, 4096);
  bench.hopper_attention(2, 8, 40, 16384);
  bench.hopper_attention(2, 8, 80, 1024);
  bench.hopper_attention(2, 8, 160, 256);
  bench.hopper_attention(1, 10, 64, 4096);
  bench.norms(2, 64, 320);
  bench.norms(2, 64, 960);
  bench.norms(2, 32, 640);
  bench.norms(2, 16, 1280);
}

}  // namespace nd::cuda_bench
