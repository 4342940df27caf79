#include "cuda/layers/product.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/layers/moments.h"
#include "cuda/layers/product_int8.h"
#include "cuda/layers/product_plan.h"
#include "weights/formats/blocks.h"
#include "weights/formats/half.h"

namespace nd::cuda {
namespace {

constexpr int64_t kChunk = 8;
constexpr size_t kPieceBytes = Staging::kPart;  // of weights that are copied while others are read

static_assert(static_cast<int>(Activation::geglu) == static_cast<int>(ProductActivation::geglu) &&
                  static_cast<int>(Activation::relu) == static_cast<int>(ProductActivation::relu),
              "activations are handed to kernels by number");

static_assert(static_cast<int>(TensorType::q2_k) - static_cast<int>(TensorType::q8_0) ==
                  static_cast<int>(BlockType::q2_k),
              "block types are handed to kernels by number");

using half_bits = uint16_t;

bool is_float8(TensorType type) {
  return type == TensorType::f8_e4m3 || type == TensorType::f8_e5m2;
}

BlockType block_type(TensorType type) {
  if (type == TensorType::f8_e4m3) return BlockType::f8_e4m3;
  if (type == TensorType::f8_e5m2) return BlockType::f8_e5m2;
  return static_cast<BlockType>(static_cast<int>(type) - static_cast<int>(TensorType::q8_0));
}

int64_t block_elements(TensorType type) {
  if (is_float8(type)) return 1;
  return type < TensorType::q6_k ? kBlock : kSuperBlock;
}

int64_t round_up(int64_t x) {
  return pieces_of(x, kChunk) * kChunk;
}

/// The stored row that packed row `row` is, or −1 for one of zeros: with GEGLU eight values and their eight
/// gates take turns, so that a thread has both.
int64_t source_row(int64_t row, int64_t out, bool geglu) {
  if (!geglu) return row < out ? row : -1;
  const int64_t half = out / 2, value = row / (2 * kChunk) * kChunk + row % kChunk;
  if (value >= half) return -1;
  return row / kChunk % 2 ? half + value : value;
}

}  // namespace

Product::Product(int64_t in, int64_t taps, int64_t out, bool geglu)
    : in_(in),
      out_(out),
      rows_(geglu ? 2 * round_up(out / 2) : out),
      chunks_(taps * pieces_of(in, kChunk)),
      geglu_(geglu) {}

Product::Product(Device& device, Loader& loader, int64_t in, int64_t taps, int64_t out, bool geglu,
                 const FillRow& fill, const std::vector<float>& bias, int64_t planes)
    : Product(in, taps, out, geglu) {
  const int64_t row_elements = chunks_ * kChunk, tap_elements = round_up(in), total = planes * rows_;
  weights_ = Buffer(device, loader, static_cast<size_t>(total * row_elements) * 2);
  set_bias(device, loader, bias);
  if (loader.plans()) return;
  const int64_t piece = std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes) / (row_elements * 2));
  WeightUpload upload(device);
  for (int64_t first = 0; first < total; first += piece) {
    const int64_t count = std::min(piece, total - first);
    uint16_t* packed = upload.reserve<uint16_t>(count * row_elements);
    ThreadPool::shared().parallel_for(count, loader.cancel(), [&](int64_t i, int) {
      uint16_t* to = packed + i * row_elements;
      const int64_t plane = (first + i) / rows_, row = source_row((first + i) % rows_, out, geglu);
      std::fill_n(to, row_elements, uint16_t{0});
      if (row < 0) return;
      std::vector<float> values(static_cast<size_t>(taps * in));
      fill(plane * out + row, values.data());
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t j = 0; j < in; ++j)
          to[tap * tap_elements + j] = float_to_half(values[static_cast<size_t>(tap * in + j)]);
    });
    upload.send(weights_, static_cast<size_t>(first * row_elements) * 2, packed, count * row_elements);
  }
  upload.finish();
}

Product::Product(Device& device, Loader& loader, int64_t in, int64_t taps, int64_t out, bool geglu,
                 const StoredBlocks& stored, const std::vector<float>& bias, int64_t planes)
    : Product(in, taps, out, geglu) {
  const StoredTensor& first = stored.tensors.front();
  decode_.total = planes * rows_ * chunks_;
  decode_.type = block_type(first.type);
  decode_.block_elements = narrow(block_elements(first.type));
  decode_.block_bytes = narrow(stored_bytes(first.type, decode_.block_elements));
  decode_.rows = narrow(rows_), decode_.chunks = narrow(chunks_);
  decode_.stored_rows = narrow(out), decode_.in = narrow(in), decode_.stored_taps = narrow(stored.taps);
  decode_.geglu = geglu, decode_.folded = stored.folded;
  decode_.channels_last = first.channels_last || stored.taps == 1;
  size_t bytes = 0, at = 0;
  for (const StoredTensor& tensor : stored.tensors) bytes += static_cast<size_t>(tensor.bytes);
  set_bias(device, loader, bias);
  if (holds_int8(stored, in)) {
    weights_ = codes_and_scales(device, loader, stored);
    decode_.type = BlockType::q8_apart;
    decode_.block_bytes = decode_.block_elements;
    int64_t codes = 0;
    for (const StoredTensor& tensor : stored.tensors) codes += tensor.count();
    decode_.block_scales = pointer<half>(weights_.address() + static_cast<size_t>(codes));
    return;
  }
  weights_ = Buffer(device, loader, bytes);
  if (is_float8(first.type)) {
    std::vector<float> scales;
    for (const StoredTensor& tensor : stored.tensors) scales.push_back(tensor.scale);
    scales_ = Buffer::of(device, loader, scales);
    decode_.scales = pointer<float>(scales_.address());
    decode_.scale_rows = narrow(first.shape[0]);
  }
  if (loader.plans()) return;
  const auto whole_blocks = [&](size_t most) {
    return static_cast<int64_t>(most) / decode_.block_bytes * decode_.block_elements;
  };
  const int64_t piece = whole_blocks(kPieceBytes), read = whole_blocks(WeightFile::kBuffer);
  WeightUpload upload(device);
  for (const StoredTensor& tensor : stored.tensors)
    for (int64_t begin = 0; begin < tensor.count(); begin += piece) {
      const int64_t end = std::min(begin + piece, tensor.count());
      const int64_t size = stored_bytes(tensor.type, end - begin);
      uint8_t* const part = upload.reserve<uint8_t>(size);
      for (int64_t i = begin; i < end; i += read) {
        if (loader.cancel()) loader.cancel()->check();
        const int64_t count = std::min(read, end - i);
        std::memcpy(part + stored_bytes(tensor.type, i - begin), tensor.blocks(i, count),
                    static_cast<size_t>(stored_bytes(tensor.type, count)));
      }
      upload.send(weights_, at, part, size);
      at += static_cast<size_t>(size);
    }
  upload.finish();
}

bool Product::holds_blocks(const StoredBlocks& stored) {
  constexpr int64_t kMinElements = 8 << 10;  // below, decoding costs a launch and saves next to nothing
  const StoredTensor& first = stored.tensors.front();
  const bool blocks = first.type >= TensorType::q8_0 && first.type <= TensorType::q2_k;
  if (!blocks && !is_float8(first.type)) return false;
  int64_t elements = 0;
  for (const StoredTensor& tensor : stored.tensors) {
    // Rows with adapters are not what is stored.
    if (tensor.rows || (blocks && tensor.scale != 1.0f)) return false;
    if (tensor.type != first.type || tensor.channels_last != first.channels_last) return false;
    elements += tensor.count();
  }
  return elements >= kMinElements;
}

void Product::set_bias(const Device& device, Loader& loader, const std::vector<float>& bias) {
  if (bias.empty()) return;
  std::vector<float> packed_bias(static_cast<size_t>(round_up(rows_)), 0.0f);
  for (int64_t i = 0; i < rows_; ++i) {
    const int64_t row = source_row(i, out_, geglu_);
    if (row >= 0) packed_bias[static_cast<size_t>(i)] = bias[static_cast<size_t>(row)];
  }
  bias_ = Buffer::of(device, loader, packed_bias);
}

ProductArgs Product::arguments(const ProductCall& call, const Epilogue& epilogue) const {
  const Tensor &x = *call.x, &y = *call.y;
  const int64_t grid_h = call.grid_h ? call.grid_h : x.h, grid_w = call.grid_w ? call.grid_w : x.w;
  // Kernels find elements of x and chunks of the weights by 32 bits; y may be the x of the next product.
  const int64_t second_c = call.second ? call.second->c : 0, c = x.c + second_c;
  for (const int64_t count : {x.rows() * c, y.size(), rows_ * chunks_}) narrow(count);
  ProductArgs args{};
  args.x = data(x);
  args.second = call.second ? data(*call.second) : nullptr;
  args.bias = call.bias && bias_ ? pointer<float>(bias_.address()) : nullptr;
  if (epilogue.image_bias) {
    args.image_bias =
        pointer<half>(epilogue.image_bias->address() + static_cast<size_t>(epilogue.image_bias_channel) * 2);
    args.image_bias_stride = narrow(epilogue.image_bias->c);
  }
  args.residual = epilogue.residual ? data(*epilogue.residual) : nullptr;
  args.y = data(y);
  args.m = narrow(x.n * grid_h * grid_w);
  args.o = narrow(rows_);
  args.c = narrow(c), args.second_c = narrow(second_c);
  args.chunks = narrow(call.chunks ? call.chunks : chunks_);
  args.weights_chunks = narrow(chunks_);
  args.grid_w = narrow(grid_w);
  args.grid_pixels = narrow(grid_h * grid_w);
  args.h = narrow(x.h), args.w = narrow(x.w);
  args.stride = narrow(call.stride);
  args.pad_y = narrow(call.pad_y), args.pad_x = narrow(call.pad_x);
  args.kernel_w = narrow(call.kernel_w);
  args.out_h = narrow(y.h), args.out_w = narrow(y.w);
  args.out_step = narrow(call.out_step);
  args.out_y = narrow(call.out_y), args.out_x = narrow(call.out_x);
  args.parities = narrow(call.parities);
  args.y_columns = narrow(out());
  args.alpha = call.alpha;
  args.activation = geglu_ ? ProductActivation::geglu : static_cast<ProductActivation>(epilogue.activation);
  args.relu_after_residual = epilogue.relu_after_residual;
  return args;
}

bool Product::takes_int8(const Device& device, const ProductCall& call) const {
  return decode_.type == BlockType::q8_apart && !call.second &&
         prefers_int8(arguments(call, {}), call.pointwise, true, decode_, device);
}

void Product::run(Context& ctx, const ProductCall& call, const Epilogue& epilogue) const {
  const Tensor &x = *call.x, &y = *call.y;
  ProductArgs args = arguments(call, epilogue);
  // Two tensors are those of a shortcut, which the policy does not let multiply int8.
  const bool int8 = call.int8 || (decode_.type == BlockType::q8_apart && !call.second &&
                                  prefers_int8(args, call.pointwise, false, decode_, ctx.device));
  // What decodes them comes before the product in the stream, and whatever takes their place after it.
  const bool decodes = decode_.total && !int8;
  const Scratch<half_bits> decoded(ctx, decodes ? decode_.total * kChunk : 0);
  if (decodes) {
    DecodeArgs decode = decode_;
    decode.blocks = pointer<unsigned char>(weights_.address());
    decode.out = pointer<half>(decoded.address());
    ctx.launch(Kernel::decode_blocks, {pieces_of(decode.total, kMoveThreads)}, decode);
  }
  args.weights = pointer<half>((decodes ? decoded.address() : weights_.address()) + call.weights_offset);
  args.constant_weights = !decodes;

  ProductPlan plan = int8 ? plan_int8(args, ctx.device) : plan_product(args, call.pointwise, ctx.device);
  if (call.moments) plan_moments(plan, args);
  TensorMoments* moments = plan.moment_pieces ? &TensorMoments::beside(ctx, y, plan.moment_pieces) : nullptr;
  args.span = plan.span;
  args.moment_pieces = plan.moment_pieces;
  if (moments && plan.splits == 1) args.moments = moments->data();
  args.splits = plan.splits;
  args.split_steps = plan.split_steps;
  const int64_t columns = round_up(args.o);
  const Scratch<float> partial(ctx, plan.splits > 1 ? plan.splits * args.m * columns : 0);
  args.partial = partial.data();
  std::optional<Int8Tensor> quantized;
  if (int8 && !call.int8) quantize(ctx, x, quantized.emplace(ctx, x.size()));
  if (int8)
    launch_int8(ctx, args, plan, call.int8 ? *call.int8 : *quantized, weights_.address(),
                decode_.block_scales);
  else if (!is_hopper(plan.kernel))
    ctx.launch(plan.kernel, plan.grid, args);
  else if (!ctx.measuring())
    ctx.launch(plan.kernel, plan.grid, hopper_arguments(ctx.device.driver(), args, plan));
  if (plan.splits > 1 && moments) {
    args.moments = moments->data();
    ctx.launch(Kernel::product_finish_moments,
               {plan.moment_pieces, pieces_of(args.o, kMomentChannels), args.m / args.grid_pixels}, args);
  } else if (plan.splits > 1) {
    const int64_t pieces = args.m * columns / (geglu_ ? 2 * kChunk : kChunk);
    ctx.launch(Kernel::product_finish, {pieces_of(pieces, kFinishThreads)}, args);
  }
  if (moments) moments->taken(plan.moment_pieces);
}

}  // namespace nd::cuda
