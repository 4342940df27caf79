#include "cpu/layers/attention.h"

#include <algorithm>
#include <cmath>

namespace nd::cpu {

namespace {
constexpr int64_t kTaskQueries = 192;
constexpr int64_t kAlignedFloats = 16;  // 64 bytes
constexpr int64_t kBandTokens = 4096;   // of forward_onto

/// Calls body(first, end) for pieces of `tokens` tokens, in parallel.
template <class Body>
void each_piece(Context& ctx, int64_t tokens, const Body& body) {
  ctx.parallel((tokens + kTaskQueries - 1) / kTaskQueries, [&](int64_t task, int) {
    body(task * kTaskQueries, std::min(tokens, (task + 1) * kTaskQueries));
  });
}

/// Packed floats of one head, rounded up so that the next head is aligned.
int64_t head_floats(const AttentionKernel& kernel, const AttentionArgs& args) {
  return (kernel.packed_floats(args) + kAlignedFloats - 1) / kAlignedFloats * kAlignedFloats;
}
}  // namespace

Attention::Attention(const Device& device, Loader& loader, AttentionWeights weights,
                     const AttentionOptions& options)
    : options_(options) {
  compute_ = loader.precision().attention(weights.out.compute);
  const Kernels& table = device.kernels;
  kernel_ = compute_ == Compute::bf16 ? *table.bf16_attention : table.attention;
  if (options.context_width) {
    q_ = Linear(device, loader, std::move(weights.queries), {});
    const OncePerImage once(loader);  // keys and values of a prompt are cached
    kv_ = Linear(device, loader, std::move(weights.keys_values), {});
  } else {
    qkv_ = Linear(device, loader, std::move(weights.queries), {});
  }
  out_ = Linear(device, loader, std::move(weights.out), {});
  const int64_t scratch = kernel_.scratch_floats(arguments(nullptr, 0, 0));
  loader.need_task_bytes({static_cast<size_t>(scratch) * sizeof(float), 0});
}

AttentionArgs Attention::arguments(const float* keys_and_values, int64_t ld, int64_t length) const {
  AttentionArgs args;
  args.k = keys_and_values;
  args.v = keys_and_values ? keys_and_values + inner() : nullptr;
  args.ldk = args.ldv = ld;
  args.k_len = length;
  args.heads = options_.heads;
  args.head_dim = options_.head_dim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(options_.head_dim));
  args.causal = options_.causal;
  return args;
}

size_t Attention::packed_bytes(int64_t length) const {
  return static_cast<size_t>(options_.heads * head_floats(kernel_, arguments(nullptr, 0, length))) *
         sizeof(float);
}

void Attention::pack(ForwardContext& base, const Tensor& context, const Address* images,
                     size_t offset) const {
  Context& ctx = Context::of(base);
  const Tensor kv = kv_.forward(ctx, context);
  const AttentionArgs args = arguments(data(kv), kv.c, kv.pixels());
  const int64_t floats = head_floats(kernel_, args);
  ctx.parallel(context.n * args.heads, [&](int64_t task, int) {
    const int64_t image = task / args.heads, head = task % args.heads;
    kernel_.pack(args, image, head, pointer<float>(images[image] + offset) + head * floats);
  });
}

template <class Packed>
Tensor Attention::mix_values(Context& ctx, const Tensor& x, const AttentionArgs& args,
                             const Packed& packed) const {
  Profiled layer(ctx.profile, options_.context_width ? "cross-attention" : "self-attention", compute_);
  Tensor mixed(ctx, x.n, x.h, x.w, inner());
  AttentionArgs all = args;
  all.batch = x.n;
  all.q_len = x.pixels();
  all.out = data(mixed);
  all.ldo = mixed.c;
  const int64_t floats = head_floats(kernel_, all), scratch = kernel_.scratch_floats(all);
  const int64_t blocks = (all.q_len + kTaskQueries - 1) / kTaskQueries;
  layer.count((all.causal ? 2.0 : 4.0) * static_cast<double>(x.n * all.q_len * all.k_len * inner()));
  ctx.parallel(all.batch * all.heads * blocks, [&](int64_t task, int) {
    const int64_t image = task / blocks / all.heads, head = task / blocks % all.heads;
    const int64_t first = task % blocks * kTaskQueries;
    kernel_.run(all, image, head, first, std::min(all.q_len, first + kTaskQueries),
                packed(image) + head * floats, thread_scratch(static_cast<size_t>(scratch)));
  });
  return mixed;
}

Tensor Attention::mix_own(Context& ctx, const Tensor& shape, const AttentionArgs& args) const {
  const int64_t floats = head_floats(kernel_, args);
  const Scratch<float> packed(ctx, shape.n * args.heads * floats);
  const Profiled layer(ctx.profile, "self-attention", compute_);
  ctx.parallel(shape.n * args.heads, [&](int64_t task, int) {
    kernel_.pack(args, task / args.heads, task % args.heads, packed.data() + task * floats);
  });
  return mix_values(ctx, shape, args,
                    [&](int64_t image) { return packed.data() + image * args.heads * floats; });
}

Tensor Attention::forward(ForwardContext& base, const Tensor& x, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  Tensor qkv = qkv_.forward(ctx, x);
  AttentionArgs args = arguments(data(qkv) + inner(), qkv.c, qkv.pixels());
  args.q = data(qkv);
  args.ldq = qkv.c;
  const Tensor mixed = mix_own(ctx, x, args);
  qkv.release();
  Epilogue epilogue;
  epilogue.residual = residual;
  return out_.forward(ctx, mixed, epilogue);
}

Tensor Attention::forward_apart(ForwardContext& base, const Tensor& inputs, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  // Each input is projected to all three, of which one is used: the matrices are packed side by side.
  Tensor qkv = qkv_.forward(ctx, inputs);
  const int64_t n = inputs.n / 3, third = n * qkv.pixels() * qkv.c;
  AttentionArgs args = arguments(nullptr, qkv.c, qkv.pixels());
  args.q = data(qkv);
  args.ldq = qkv.c;
  args.k = data(qkv) + third + inner();
  args.v = data(qkv) + 2 * third + 2 * inner();
  const Tensor mixed = mix_own(ctx, Tensor::borrowed({}, n, inputs.h, inputs.w, inputs.c), args);
  qkv.release();
  Epilogue epilogue;
  epilogue.residual = residual;
  return out_.forward(ctx, mixed, epilogue);
}

void Attention::attend_to(Context& ctx, const AddedContext& added, const Tensor& x, const Tensor& q,
                          const Tensor& mixed) const {
  const Tensor& kv = added.keys_values;
  AttentionArgs args = arguments(data(kv), kv.c, kv.pixels());
  args.q = data(q);
  args.ldq = q.c;
  const int64_t floats = head_floats(kernel_, args);
  const Scratch<float> packed(ctx, kv.n * args.heads * floats);
  ctx.parallel(kv.n * args.heads, [&](int64_t task, int) {
    kernel_.pack(args, task / args.heads, task % args.heads, packed.data() + task * floats);
  });
  const Tensor more = mix_values(
      ctx, x, args, [&](int64_t image) { return packed.data() + added.rows[image] * args.heads * floats; });
  ctx.backend.add_masked(ctx, more, mixed, added.factor, added.mask ? &added.mask : nullptr);
}

Tensor Attention::forward(ForwardContext& base, const Tensor& x, const PackedContext& context,
                          const std::vector<AddedContext>& added, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  Tensor q = q_.forward(ctx, x);
  AttentionArgs args = arguments(nullptr, 0, context.length);
  args.q = data(q);
  args.ldq = q.c;
  const Tensor mixed = mix_values(ctx, x, args, [&](int64_t image) {
    return pointer<const float>(context.images[image] + context.offset);
  });
  for (const AddedContext& one : added) attend_to(ctx, one, x, q, mixed);
  q.release();
  Epilogue epilogue;
  epilogue.residual = residual;
  return out_.forward(ctx, mixed, epilogue);
}

Tensor Attention::forward_onto(ForwardContext& base, const nd::GroupNorm& norm, Tensor x) const {
  Context& ctx = Context::of(base);
  const int64_t tokens = x.pixels(), band = std::min(tokens, kBandTokens);
  const int64_t bands = (tokens + band - 1) / band, columns = 2 * inner();
  const Tensor factors = norm.affine(ctx, x);
  const auto rows_of = [&](int64_t i) { return std::min(band, tokens - i * band); };
  // Queries, keys and values of band i.
  const auto project = [&](int64_t i) {
    const Tensor normed(ctx, 1, 1, rows_of(i), x.c);
    each_piece(ctx, normed.w, [&](int64_t first, int64_t end) {
      ctx.kernels.affine_rows(data(x) + (i * band + first) * x.c, end - first, x.c, data(factors),
                              data(factors) + x.c, false, data(normed) + first * x.c);
    });
    return qkv_.forward(ctx, normed);
  };

  Tensor kv(ctx, 1, 1, tokens, columns), qkv;
  for (int64_t i = 0; i < bands; ++i) {
    qkv = project(i);
    each_piece(ctx, qkv.w, [&](int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t)
        std::copy_n(data(qkv) + t * qkv.c + inner(), columns, data(kv) + (i * band + t) * columns);
    });
  }
  if (bands > 1) qkv.release();
  AttentionArgs args = arguments(data(kv), columns, tokens);
  const int64_t floats = head_floats(kernel_, args);
  const Scratch<float> packed(ctx, args.heads * floats);
  ctx.parallel(args.heads,
               [&](int64_t head, int) { kernel_.pack(args, 0, head, packed.data() + head * floats); });
  kv.release();
  for (int64_t i = 0; i < bands; ++i) {
    // With several bands, the queries are computed twice: 0.3 % of the work of a decoder.
    if (bands > 1) qkv = project(i);
    args.q = data(qkv);
    args.ldq = qkv.c;
    Tensor mixed;
    {
      const Profiled layer(ctx.profile, "self-attention", compute_);
      mixed = mix_values(ctx, qkv, args, [&](int64_t) { return packed.data(); });
    }
    qkv.release();
    const Tensor result = out_.forward(ctx, mixed);
    float* to = data(x) + i * band * x.c;
    each_piece(ctx, mixed.w, [&](int64_t first, int64_t end) {
      ctx.kernels.add(to + first * x.c, data(result) + first * x.c, (end - first) * x.c, to + first * x.c);
    });
  }
  return x;
}

}  // namespace nd::cpu
