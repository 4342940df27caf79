#include "nn/attention.h"

#include <algorithm>
#include <cmath>

namespace nd {

namespace {
constexpr int64_t kTaskQueries = 192;
}

Attention::Attention(Loader& loader, const std::string& prefix, const AttentionOptions& options)
    : options_(options) {
  const int64_t inner = options.heads * options.head_dim;
  const std::string q = prefix + "." + options.q, k = prefix + "." + options.k, v = prefix + "." + options.v;
  LinearOptions projection;
  projection.bias = options.projection_bias;
  if (options.context_width) {
    q_ = Linear(loader, q, options.width, inner, projection);
    kv_ = Linear(loader, std::vector<std::string>{k, v}, options.context_width, inner, projection);
  } else {
    qkv_ = Linear(loader, std::vector<std::string>{q, k, v}, options.width, inner, projection);
  }
  out_ = Linear(loader, prefix + "." + options.out, inner, options.width);
}

LowAttention Attention::kernels(const Kernels& table) const {
  // Where the projections round their inputs, attention gains nothing from float32.
  if (out_.compute() != Compute::f32 && table.bf16_attention) return *table.bf16_attention;
  return {table.attention_packed_floats, table.attention_pack, table.attention_scratch_floats,
          table.attention};
}

Feature Attention::forward(Run& run, const Feature& x, const Feature* context,
                           const Feature* residual) const {
  const int64_t inner = options_.heads * options_.head_dim;
  Feature q, kv;
  AttentionArgs args;
  if (options_.context_width) {
    q = q_.forward(run, x);
    kv = kv_.forward(run, *context);
    args.q = q.data();
    args.k = kv.data();
    args.ldq = q.c;
    args.ldk = args.ldv = kv.c;
    args.k_len = kv.pixels();
  } else {
    q = qkv_.forward(run, x);
    args.q = q.data();
    args.k = q.data() + inner;
    args.ldq = args.ldk = args.ldv = q.c;
    args.k_len = q.pixels();
  }
  args.v = args.k + inner;
  args.batch = x.n;
  args.heads = options_.heads;
  args.head_dim = options_.head_dim;
  args.q_len = x.pixels();
  args.scale = 1.0f / std::sqrt(static_cast<float>(options_.head_dim));
  args.causal = options_.causal;

  Feature mixed(run, x.n, x.h, x.w, inner);
  args.out = mixed.data();
  args.ldo = inner;
  const LowAttention kernel = kernels(run.kernels);
  const int64_t packed_floats = (kernel.packed_floats(args) + 15) / 16 * 16;
  {
    const Scratch<float> packed(run, args.batch * args.heads * packed_floats);
    run.parallel(args.batch * args.heads, [&](int64_t task, int) {
      kernel.pack(args, task / args.heads, task % args.heads, packed.data() + task * packed_floats);
    });
    const int64_t scratch = kernel.scratch_floats(args);
    const int64_t blocks = (args.q_len + kTaskQueries - 1) / kTaskQueries;
    run.parallel(args.batch * args.heads * blocks, [&](int64_t task, int) {
      const int64_t head = task / blocks, first = task % blocks * kTaskQueries;
      kernel.attention(args, head / args.heads, head % args.heads, first,
                       std::min(args.q_len, first + kTaskQueries), packed.data() + head * packed_floats,
                       thread_scratch(static_cast<size_t>(scratch)));
    });
  }
  q.release();
  kv.release();
  Fuse fuse;
  fuse.residual = residual;
  return out_.forward(run, mixed, fuse);
}

}  // namespace nd
