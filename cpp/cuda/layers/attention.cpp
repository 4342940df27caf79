#include "cuda/layers/attention.h"

#include <algorithm>
#include <utility>

#include "cuda/layers/attention_hopper.h"

namespace nd::cuda {

Kernel attention_kernel(int64_t head_dim) {
  constexpr Kernel kernels[] = {Kernel::attention_40, Kernel::attention_64, Kernel::attention_80,
                                Kernel::attention_128, Kernel::attention_160};
  if (head_dim % 8)  // no known model but small ones for tests
    return head_dim <= kAttentionShapes[0].dim ? Kernel::attention_40_unaligned : Kernel::attention_wide;
  for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; ++i)
    if (head_dim <= kAttentionShapes[i].dim) return kernels[i];
  return Kernel::attention_wide;
}

Attention::Attention(Device& device, Loader& loader, AttentionWeights weights,
                     const AttentionOptions& options)
    : options_(options) {
  if (options.context_width) {
    q_ = Linear(device, loader, std::move(weights.queries), {});
    kv_ = Linear(device, loader, std::move(weights.keys_values), {});
  } else {
    qkv_ = Linear(device, loader, std::move(weights.queries), {});
  }
  LinearOptions out;
  out.feeds_group_norm = options.feeds_group_norm;
  out_ = Linear(device, loader, std::move(weights.out), out);
}

template <class Keys>
Tensor Attention::attend(Context& ctx, const Tensor& q, int64_t ldk, int64_t k_length, const Keys& keys,
                         int64_t v_offset) const {
  const int64_t inner = options_.inner(), head_dim = options_.head_dim, length = q.pixels();
  Tensor mixed(ctx, q.n, q.h, q.w, inner);
  const Kernel kernel = attention_kernel(head_dim);
  AttentionArgs args{};
  args.slices = narrow(kernel == Kernel::attention_wide ? pieces_of(head_dim, kWideSlice) : 1);
  args.ldq = narrow(q.c), args.ldk = narrow(ldk), args.ldo = narrow(inner);
  args.v_offset = v_offset;
  args.q_image = length * q.c, args.out_image = length * inner;
  args.q_length = narrow(length), args.k_length = narrow(k_length), args.head_dim = narrow(head_dim);
  args.scale = attention_scale(head_dim);
  args.causal = options_.causal;
  args.aligned = head_dim % 8 == 0;
  for (int64_t first = 0; first < q.n && !ctx.measuring(); first += kAttentionImages) {
    const int64_t count = std::min<int64_t>(kAttentionImages, q.n - first);
    args.q = pointer<half>(q.address() + static_cast<size_t>(first * args.q_image) * 2);
    args.out = pointer<half>(mixed.address() + static_cast<size_t>(first * args.out_image) * 2);
    for (int64_t i = 0; i < count; ++i) args.keys[i] = pointer<half>(keys(first + i));
    ctx.launch(kernel, {pieces_of(length, attention_queries(kernel)), options_.heads, count * args.slices},
               args);
  }
  return mixed;
}

Tensor Attention::self(Context& ctx, const Tensor& qkv) const {
  const int64_t inner = options_.inner();
  const SelfAttentionShape shape{qkv.n, qkv.pixels(), options_.heads, options_.head_dim};
  if (attends_by_warpgroups(ctx.device, shape, options_.causal)) {
    Tensor mixed(ctx, qkv.n, qkv.h, qkv.w, inner);
    if (!ctx.measuring())
      ctx.launch(hopper_attention_kernel(shape.head_dim), hopper_attention_grid(shape),
                 hopper_attention_arguments(ctx.device.driver(), data(qkv), data(mixed), shape));
    return mixed;
  }
  return attend(
      ctx, qkv, qkv.c, qkv.pixels(),
      [&](int64_t image) {
        return qkv.address() + static_cast<size_t>(image * qkv.pixels() * qkv.c + inner) * 2;
      },
      inner);
}

Tensor Attention::forward_apart(ForwardContext& base, const Tensor& inputs, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  Tensor mixed;
  {
    // Each input is projected to all three, of which one is used: the matrices are stored side by side.
    const Tensor qkv = qkv_.forward(ctx, inputs);
    const int64_t n = inputs.n / 3, image_size = qkv.pixels() * qkv.c, inner = options_.inner();
    const Tensor queries = Tensor::borrowed(qkv.address(), n, qkv.h, qkv.w, qkv.c);
    mixed = attend(
        ctx, queries, qkv.c, qkv.pixels(),
        [&](int64_t image) {
          return qkv.address() + static_cast<size_t>((n + image) * image_size + inner) * 2;
        },
        n * image_size + inner);
  }
  return project_out(ctx, mixed, residual);
}

Tensor Attention::cross(Context& ctx, const Tensor& q, const PackedContext& context,
                        const std::vector<AddedContext>& added) const {
  const int64_t row = 2 * options_.inner();
  Tensor mixed = attend(
      ctx, q, row, context.length, [&](int64_t image) { return context.images[image] + context.offset; },
      options_.inner());
  for (const AddedContext& one : added) {
    const int64_t length = one.keys_values.pixels();
    const Tensor more = attend(
        ctx, q, row, length,
        [&](int64_t image) {
          return one.keys_values.address() + static_cast<size_t>(one.rows[image] * length * row) * 2;
        },
        options_.inner());
    ctx.backend.add_masked(ctx, more, mixed, one.factor, one.mask ? &one.mask : nullptr);
  }
  return mixed;
}

Tensor Attention::project_out(Context& ctx, const Tensor& mixed, const Tensor* residual) const {
  Epilogue epilogue;
  epilogue.residual = residual;
  return out_.forward(ctx, mixed, epilogue);
}

// The projections' tensors live no longer than their argument's expression.
Tensor Attention::forward(ForwardContext& base, const Tensor& x, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  const Tensor mixed = self(ctx, qkv_.forward(ctx, x));
  return project_out(ctx, mixed, residual);
}

Tensor Attention::forward(ForwardContext& base, const Tensor& x, const PackedContext& context,
                          const std::vector<AddedContext>& added, const Tensor* residual) const {
  Context& ctx = Context::of(base);
  const Tensor mixed = cross(ctx, q_.forward(ctx, x), context, added);
  return project_out(ctx, mixed, residual);
}

Tensor Attention::forward_normed(ForwardContext& base, const nd::LayerNorm& norm, const Tensor& x,
                                 const Tensor* residual) const {
  Context& ctx = Context::of(base);
  const Tensor mixed = self(ctx, qkv_.forward_normed(ctx, norm, x));
  return project_out(ctx, mixed, residual);
}

Tensor Attention::forward_normed(ForwardContext& base, const nd::LayerNorm& norm, const Tensor& x,
                                 const PackedContext& context, const std::vector<AddedContext>& added,
                                 const Tensor* residual) const {
  Context& ctx = Context::of(base);
  const Tensor mixed = cross(ctx, q_.forward_normed(ctx, norm, x), context, added);
  return project_out(ctx, mixed, residual);
}

Tensor Attention::forward_onto(ForwardContext& ctx, const nd::GroupNorm& norm, Tensor x) const {
  const Tensor mixed = self(Context::of(ctx), qkv_.forward_normed(ctx, norm, x));
  Epilogue epilogue;
  epilogue.residual = &x;
  out_.forward_to(ctx, mixed, epilogue, x);
  return x;
}

size_t Attention::packed_bytes(int64_t length) const {
  const size_t bytes = static_cast<size_t>(length * 2 * options_.inner()) * 2;
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

void Attention::pack(ForwardContext& base, const Tensor& context, const Address* images,
                     size_t offset) const {
  Context& ctx = Context::of(base);
  const Tensor kv = kv_.forward(ctx, context);
  const size_t bytes = static_cast<size_t>(kv.pixels() * kv.c) * 2;
  for (int64_t i = 0; i < kv.n && !ctx.measuring(); ++i)
    ctx.copy(images[i] + offset, kv.address() + static_cast<size_t>(i) * bytes, bytes);
}

}  // namespace nd::cuda
