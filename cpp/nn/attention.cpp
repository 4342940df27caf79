#include "nn/attention.h"

#include <algorithm>
#include <cmath>

namespace nd {

namespace {
constexpr int64_t kTaskQueries = 192;
constexpr int64_t kAlignedFloats = 16;  // 64 bytes
constexpr int64_t kBandTokens = 4096;

/// body(first, end) for pieces of `tokens`, in parallel.
template <class Body>
void each_piece(Run& run, int64_t tokens, const Body& body) {
  run.parallel((tokens + kTaskQueries - 1) / kTaskQueries, [&](int64_t task, int) {
    body(task * kTaskQueries, std::min(tokens, (task + 1) * kTaskQueries));
  });
}

/// Packed floats of one head, rounded up so that the next one's are aligned.
int64_t head_floats(const LowAttention& kernel, const AttentionArgs& args) {
  return (kernel.packed_floats(args) + kAlignedFloats - 1) / kAlignedFloats * kAlignedFloats;
}
}  // namespace

Attention::Attention(Loader& loader, const std::string& prefix, const AttentionOptions& options)
    : options_(options) {
  const int64_t inner = options.heads * options.head_dim;
  const std::string q = prefix + "." + options.q, k = prefix + "." + options.k, v = prefix + "." + options.v;
  LinearOptions projection;
  projection.bias = options.projection_bias;
  if (options.context_width) {
    q_ = Linear(loader, q, options.width, inner, projection);
    const Rarely rarely(loader);  // what they make of a prompt is kept
    kv_ = Linear(loader, std::vector<std::string>{k, v}, options.context_width, inner, projection);
  } else {
    qkv_ = Linear(loader, std::vector<std::string>{q, k, v}, options.width, inner, projection);
  }
  out_ = Linear(loader, prefix + "." + options.out, inner, options.width);
}

LowAttention Attention::kernels(const Kernels& table) const {
  if (multiplies(table) == Compute::bf16) return *table.bf16_attention;
  return {table.attention_packed_floats, table.attention_pack, table.attention_scratch_floats,
          table.attention};
}

Compute Attention::multiplies(const Kernels& table) const {
  // Where the projections round their inputs, attention gains nothing from float32.
  return out_.compute() != Compute::f32 && table.bf16_attention ? Compute::bf16 : Compute::f32;
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

int64_t Attention::packed_floats(const Kernels& table, int64_t length) const {
  return options_.heads * head_floats(kernels(table), arguments(nullptr, 0, length));
}

void Attention::pack(Run& run, const Feature& context, float* const* images, int64_t offset) const {
  const Feature kv = kv_.forward(run, context);
  const AttentionArgs args = arguments(kv.data(), kv.c, kv.pixels());
  const LowAttention kernel = kernels(run.kernels);
  const int64_t floats = head_floats(kernel, args);
  run.parallel(context.n * args.heads, [&](int64_t task, int) {
    const int64_t image = task / args.heads, head = task % args.heads;
    kernel.pack(args, image, head, images[image] + offset + head * floats);
  });
}

template <class Packed>
Feature Attention::attend(Run& run, const Feature& x, const AttentionArgs& args, const Packed& packed) const {
  Profiled layer(run, options_.context_width ? "cross-attention" : "self-attention", multiplies(run.kernels));
  Feature mixed(run, x.n, x.h, x.w, inner());
  AttentionArgs all = args;
  all.batch = x.n;
  all.q_len = x.pixels();
  all.out = mixed.data();
  all.ldo = mixed.c;
  const LowAttention kernel = kernels(run.kernels);
  const int64_t floats = head_floats(kernel, all), scratch = kernel.scratch_floats(all);
  const int64_t blocks = (all.q_len + kTaskQueries - 1) / kTaskQueries;
  layer.count((all.causal ? 2.0 : 4.0) * static_cast<double>(x.n * all.q_len * all.k_len * inner()));
  run.parallel(all.batch * all.heads * blocks, [&](int64_t task, int) {
    const int64_t image = task / blocks / all.heads, head = task / blocks % all.heads;
    const int64_t first = task % blocks * kTaskQueries;
    kernel.attention(all, image, head, first, std::min(all.q_len, first + kTaskQueries),
                     packed(image) + head * floats, thread_scratch(static_cast<size_t>(scratch)));
  });
  return mixed;
}

Feature Attention::forward(Run& run, const Feature& x, const Feature* residual) const {
  Feature qkv = qkv_.forward(run, x);
  AttentionArgs args = arguments(qkv.data() + inner(), qkv.c, qkv.pixels());
  args.q = qkv.data();
  args.ldq = qkv.c;
  Feature mixed;
  {
    const LowAttention kernel = kernels(run.kernels);
    const int64_t floats = head_floats(kernel, args);
    const Scratch<float> packed(run, x.n * args.heads * floats);
    const Profiled layer(run, "self-attention", multiplies(run.kernels));
    run.parallel(x.n * args.heads, [&](int64_t task, int) {
      kernel.pack(args, task / args.heads, task % args.heads, packed.data() + task * floats);
    });
    mixed = attend(run, x, args, [&](int64_t image) { return packed.data() + image * args.heads * floats; });
  }
  qkv.release();
  Fuse fuse;
  fuse.residual = residual;
  return out_.forward(run, mixed, fuse);
}

Feature Attention::forward(Run& run, const Feature& x, const PackedContext& context,
                           const Feature* residual) const {
  Feature q = q_.forward(run, x);
  AttentionArgs args = arguments(nullptr, 0, context.length);
  args.q = q.data();
  args.ldq = q.c;
  const Feature mixed =
      attend(run, x, args, [&](int64_t image) { return context.images[image] + context.offset; });
  q.release();
  Fuse fuse;
  fuse.residual = residual;
  return out_.forward(run, mixed, fuse);
}

Feature Attention::forward_onto(Run& run, const GroupNorm& norm, Feature x) const {
  const int64_t tokens = x.pixels(), band = std::min(tokens, kBandTokens);
  const int64_t bands = (tokens + band - 1) / band, columns = 2 * inner();
  const Feature factors = norm.affine(run, x);
  const auto rows_of = [&](int64_t i) { return std::min(band, tokens - i * band); };
  // Queries, keys and values of one band.
  const auto project = [&](int64_t i) {
    const Feature normed(run, 1, 1, rows_of(i), x.c);
    each_piece(run, normed.w, [&](int64_t first, int64_t end) {
      run.kernels.affine_rows(x.data() + (i * band + first) * x.c, end - first, x.c, factors.data(),
                              factors.data() + x.c, false, normed.data() + first * x.c);
    });
    return qkv_.forward(run, normed);
  };

  Feature kv(run, 1, 1, tokens, columns), qkv;
  for (int64_t i = 0; i < bands; ++i) {
    qkv = project(i);
    each_piece(run, qkv.w, [&](int64_t first, int64_t end) {
      for (int64_t t = first; t < end; ++t)
        std::copy_n(qkv.data() + t * qkv.c + inner(), columns, kv.data() + (i * band + t) * columns);
    });
  }
  if (bands > 1) qkv.release();
  AttentionArgs args = arguments(kv.data(), columns, tokens);
  const LowAttention kernel = kernels(run.kernels);
  const int64_t floats = head_floats(kernel, args);
  const Scratch<float> packed(run, args.heads * floats);
  run.parallel(args.heads,
               [&](int64_t head, int) { kernel.pack(args, 0, head, packed.data() + head * floats); });
  kv.release();
  for (int64_t i = 0; i < bands; ++i) {
    // Queries a second time where there are several bands: 0.3 % of a decoder's work.
    if (bands > 1) qkv = project(i);
    args.q = qkv.data();
    args.ldq = qkv.c;
    Feature mixed;
    {
      const Profiled layer(run, "self-attention", multiplies(run.kernels));
      mixed = attend(run, qkv, args, [&](int64_t) { return packed.data(); });
    }
    qkv.release();
    const Feature result = out_.forward(run, mixed);
    float* to = x.data() + i * band * x.c;
    each_piece(run, mixed.w, [&](int64_t first, int64_t end) {
      run.kernels.add(to + first * x.c, result.data() + first * x.c, (end - first) * x.c, to + first * x.c);
    });
  }
  return x;
}

}  // namespace nd
